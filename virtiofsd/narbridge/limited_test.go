package narbridge

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// TestExpansion has a file that unpacks to more than it may for its size, past
// what any file may.
func TestExpansion(t *testing.T) {
	for _, tt := range []struct {
		before, packed int64 // what was read and sent up to here
		ok             bool
	}{
		{0, 1, true},
		{freeExpansion, 1, false},
		{freeExpansion, freeExpansion/1000 - 1, false},
		{freeExpansion, freeExpansion / 1000, true},
		{1 << 40, 1 << 32, false}, // longer than any NAR may be
	} {
		l := &limited{r: strings.NewReader("more"), n: tt.before, max: 64 << 30, maxExpansion: 1000, packed: func() int64 { return tt.packed }}
		_, err := io.ReadAll(l)
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, errTooLarge) {
			t.Errorf("%d bytes of a file of %d: %v", tt.before, tt.packed, err)
		}
	}
}
