// SPDX-License-Identifier: Apache-2.0

// Package gitserver serves Git repositories over HTTP from a directory: `git http-backend` behind
// net/http/cgi. Everybody may read; pushing takes basic auth. Repository commits to one of them
// locally, so that a demo or a test can play the person who changes Git.
//
// It is for test beds: no TLS, one user, repositories that nobody would miss.
package gitserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options of a Server.
type Options struct {
	// Directory holds the repositories; it is made when missing.
	Directory string
	// Address to listen on, such as 172.30.0.1:0; pods must be able to reach it.
	Address string
	// Username and Password allow pushing; without them nobody may push.
	Username, Password string
}

// Server serves all repositories under its directory.
type Server struct {
	options  Options
	listener net.Listener
	http     *http.Server
	served   chan error
}

// Start listens and serves until Stop.
func Start(options Options) (*Server, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("find git: %w", err)
	}
	if err := os.MkdirAll(options.Directory, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the repositories: %w", err)
	}
	options.Directory, err = filepath.Abs(options.Directory)
	if err != nil {
		return nil, fmt.Errorf("find the directory of the repositories: %w", err)
	}
	listener, err := net.Listen("tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for Git: %w", err)
	}
	s := &Server{options: options, listener: listener, served: make(chan error, 1)}
	s.http = &http.Server{Handler: s.handler(git), ReadHeaderTimeout: 10 * time.Second}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// URL of a repository.
func (s *Server) URL(repository string) string {
	return "http://" + s.listener.Addr().String() + "/" + repository + ".git"
}

// Stop ends the server once requests under way are answered, or ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("finish Git requests: %w", err), s.http.Close())
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve Git: %w", served))
	}
	return err
}

func (s *Server) handler(git string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		environment := []string{
			"GIT_PROJECT_ROOT=" + s.options.Directory,
			"GIT_HTTP_EXPORT_ALL=1",
		}
		environment = append(environment, isolated()...)
		username, password, given := r.BasicAuth()
		writes := s.options.Username != "" && given && username == s.options.Username && password == s.options.Password
		if pushes(r) && !writes {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "pushing takes a username and a password", http.StatusUnauthorized)
			return
		}
		if writes {
			// http-backend accepts a push when the web server has authenticated somebody.
			environment = append(environment, "REMOTE_USER="+username)
		}
		(&cgi.Handler{Path: git, Args: []string{"http-backend"}, Dir: s.options.Directory, Env: environment}).ServeHTTP(w, r)
	})
}

func pushes(r *http.Request) bool {
	return r.URL.Query().Get("service") == "git-receive-pack" || strings.HasSuffix(r.URL.Path, "/git-receive-pack")
}

// isolated keeps the machine's Git configuration out.
func isolated() []string {
	return []string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		// Who pushes is written down too. Without a name Git looks the machine's up, which takes
		// ten seconds where no name server answers.
		"GIT_CONFIG_KEY_1=user.name", "GIT_CONFIG_VALUE_1=gitserver",
		"GIT_CONFIG_KEY_2=user.email", "GIT_CONFIG_VALUE_2=gitserver@example.com",
	}
}
