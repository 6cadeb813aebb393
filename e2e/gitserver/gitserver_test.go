// SPDX-License-Identifier: Apache-2.0

package gitserver

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/git/gogit"
	"github.com/fluxcd/pkg/git/repository"
	"github.com/stretchr/testify/require"
)

const author = "Ada <ada@example.com>"

func start(t *testing.T) (*Server, *Repository) {
	t.Helper()
	server, err := Start(Options{Directory: t.TempDir(), Address: "127.0.0.1:0", Username: "ada", Password: "secret"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	repo, err := server.Init(t.Context(), "fleet")
	require.NoError(t, err)
	return server, repo
}

func TestCommitHeadRevert(t *testing.T) {
	_, repo := start(t)
	first, err := repo.Commit(t.Context(), Change{Files: map[string][]byte{"app/a.yaml": []byte("a: 1\n"), "b": nil}, Author: author, Message: "Add a"})
	require.NoError(t, err)
	head, err := repo.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, first, head)

	second, err := repo.Commit(t.Context(), Change{Files: map[string][]byte{"app/a.yaml": []byte("a: 2\n")}, Delete: []string{"b"}, Author: author, Message: "Change a"})
	require.NoError(t, err)
	for pair, want := range map[[2]string]bool{{first, first}: true, {second, first}: true, {first, second}: false} {
		contained, err := repo.Contains(t.Context(), pair[0], pair[1])
		require.NoError(t, err)
		require.Equal(t, want, contained)
	}
	require.NotEqual(t, first, second)
	content, err := repo.Read(t.Context(), "app/a.yaml")
	require.NoError(t, err)
	require.Equal(t, "a: 2", content)
	_, err = repo.Read(t.Context(), "b")
	require.Error(t, err)

	_, err = repo.Revert(t.Context(), "HEAD", author)
	require.NoError(t, err)
	content, err = repo.Read(t.Context(), "app/a.yaml")
	require.NoError(t, err)
	require.Equal(t, "a: 1", content)
}

// TestFluxLibraryClones reads as the demo's sync and Flux's source-controller do.
func TestFluxLibraryClones(t *testing.T) {
	server, repo := start(t)
	hash, err := repo.Commit(t.Context(), Change{Files: map[string][]byte{"app/a.yaml": []byte("a: 1\n")}, Author: author, Message: "Add a"})
	require.NoError(t, err)

	directory := t.TempDir()
	client, err := gogit.NewClient(directory, &git.AuthOptions{Transport: git.HTTP})
	require.NoError(t, err)
	defer client.Close()
	commit, err := client.Clone(t.Context(), server.URL("fleet"), repository.CloneConfig{
		CheckoutStrategy: repository.CheckoutStrategy{Branch: Branch}, ShallowClone: true,
	})
	require.NoError(t, err)
	require.Equal(t, hash, commit.Hash.String())
	require.Equal(t, "Ada", commit.Author.Name)
	content, err := os.ReadFile(filepath.Join(directory, "app", "a.yaml"))
	require.NoError(t, err)
	require.Equal(t, "a: 1\n", string(content))
}

func TestPushTakesThePassword(t *testing.T) {
	server, repo := start(t)
	_, err := repo.Commit(t.Context(), Change{Author: author, Message: "Begin"})
	require.NoError(t, err)
	clone := filepath.Join(t.TempDir(), "clone")
	_, err = run(t, "", "clone", "--quiet", server.URL("fleet"), clone)
	require.NoError(t, err)
	commit := func() {
		_, err := run(t, clone, "-c", "user.name=a", "-c", "user.email=b", "commit", "--quiet", "--allow-empty", "-m", "x")
		require.NoError(t, err)
	}

	commit()
	_, err = run(t, clone, "push", "--quiet", "origin", "HEAD")
	require.Error(t, err)

	address, err := url.Parse(server.URL("fleet"))
	require.NoError(t, err)
	address.User = url.UserPassword("ada", "secret")
	_, err = run(t, clone, "push", "--quiet", address.String(), "HEAD")
	require.NoError(t, err)
	pushed, err := run(t, clone, "rev-parse", "HEAD")
	require.NoError(t, err)
	head, err := repo.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, pushed, head)
}

func run(t *testing.T, directory string, arguments ...string) (string, error) {
	t.Helper()
	return command(t.Context(), directory, arguments...)
}
