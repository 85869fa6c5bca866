package group

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPositionSurvivesEncoding(t *testing.T) {
	for _, want := range []Position{{}, {Offset: 1, Epoch: 2}, {Offset: 1<<63 - 1, Epoch: 1<<64 - 1}} {
		b, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Position
		if err := got.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// The encoding is a format: what is stored today must be read by every later version.
func TestPositionVersion1IsFixed(t *testing.T) {
	b, _ := Position{Offset: 0x0102030405060708, Epoch: 9}.MarshalBinary()
	want := []byte{1, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0}
	if !bytes.Equal(b, want) {
		t.Errorf("position is %x, want %x", b, want)
	}
	key := Key(7, "billing", 9)
	if want := "g\x00\x00\x00\x00\x00\x00\x00\x07billing\x00\x00\x00\x00\x00\x00\x00\x00\x09"; string(key) != want {
		t.Errorf("key is %q, want %q", key, want)
	}
}

func TestDamagedPositionIsCorruptAndChangesNothing(t *testing.T) {
	good, _ := Position{Offset: 5, Epoch: 6}.MarshalBinary()
	negative, _ := Position{Offset: -1}.MarshalBinary()
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:16], "long": append(bytes.Clone(good), 0),
		"other version": append([]byte{2}, good[1:]...), "negative offset": negative,
	} {
		p := Position{Offset: 1, Epoch: 1}
		if err := p.UnmarshalBinary(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v, want ErrCorrupt", name, err)
		}
		if p != (Position{Offset: 1, Epoch: 1}) {
			t.Errorf("%s: position changed to %v", name, p)
		}
	}
}

func TestKeyTakesApartAgain(t *testing.T) {
	topic, name, partition, err := ParseKey(Key(1<<40, "a.b-c", 77))
	if err != nil || topic != 1<<40 || name != "a.b-c" || partition != 77 {
		t.Errorf("got %d %q %d %v", topic, name, partition, err)
	}
	for _, bad := range [][]byte{nil, []byte("g"), Prefix(1, "x"), TopicPrefix(1), append([]byte("x"), Key(1, "g", 1)[1:]...), Key(1, "", 1)} {
		if _, _, _, err := ParseKey(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("key %q: error %v, want ErrCorrupt", bad, err)
		}
	}
}

func TestGroupsWithCommonPrefixDoNotMix(t *testing.T) {
	if bytes.HasPrefix(Key(1, "billing2", 1), Prefix(1, "billing")) {
		t.Error("billing2 is found under billing")
	}
}
