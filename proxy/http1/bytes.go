// SPDX-License-Identifier: Apache-2.0

package http1

// Sets of ASCII bytes as two words of bits, one per byte.
const (
	// tokenLow and tokenHigh are the bytes of a token: digits, letters and !#$%&'*+-.^_`|~.
	tokenLow  uint64 = 0x03ff6cfa_00000000
	tokenHigh uint64 = 0x57ffffff_c7fffffe
	// hostLow and hostHigh are the bytes of a host name: those of a reg-name but the comma, in which
	// two Hosts could hide, and the percent sign, behind which any byte could.
	hostLow  uint64 = 0x2bff6fd2_00000000
	hostHigh uint64 = 0x47fffffe_87fffffe
)

func inSet(b byte, low, high uint64) bool {
	if b < 64 {
		return low>>b&1 != 0
	}
	return b < 128 && high>>(b-64)&1 != 0
}

func isTokenByte(b byte) bool { return inSet(b, tokenLow, tokenHigh) }

// IsTokenByte says whether a byte may be in a method or in the name of a field.
func IsTokenByte(b byte) bool { return isTokenByte(b) }

func isToken(name []byte) bool {
	for _, b := range name {
		if !isTokenByte(b) {
			return false
		}
	}
	return len(name) > 0
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

// trim cuts blanks from both ends.
func trim(value []byte) []byte {
	for len(value) > 0 && isBlank(value[0]) {
		value = value[1:]
	}
	for len(value) > 0 && isBlank(value[len(value)-1]) {
		value = value[:len(value)-1]
	}
	return value
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + ('a' - 'A')
	}
	return b
}

// equalFold compares ASCII without regard to case.
func equalFold[T []byte | string](text []byte, other T) bool {
	if len(text) != len(other) {
		return false
	}
	for i, b := range text {
		if lower(b) != lower(other[i]) {
			return false
		}
	}
	return true
}

func hasPrefixFold(text []byte, small string) bool {
	return len(text) >= len(small) && equalFold(text[:len(small)], small)
}

// decimal reads a number of digits only. Nineteen of them fit, if the number does.
func decimal(digits []byte) (int64, bool) {
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	var number uint64
	for _, b := range digits {
		if !isDigit(b) {
			return 0, false
		}
		number = number*10 + uint64(b-'0')
	}
	return int64(number), number <= 1<<63-1
}

// nextElement cuts the first element of a comma-separated list, without blanks around it.
func nextElement(list []byte) (element, rest []byte) {
	for i, b := range list {
		if b == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}
