package group

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzPosition decodes any bytes as a position: ErrCorrupt, and nothing is changed, or a position that is encoded to the same bytes.
func FuzzPosition(f *testing.F) {
	for _, p := range []Position{{}, {Offset: 1<<63 - 1, Epoch: 1<<64 - 1}, {Offset: -1}} {
		b, _ := p.MarshalBinary()
		f.Add(b)
		f.Add(b[1:])
		f.Add(append(b, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		was := Position{Offset: 3, Epoch: 4}
		p := was
		if err := p.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrCorrupt) || p != was {
				t.Errorf("error %v, position %+v", err, p)
			}
			return
		}
		if again, err := p.MarshalBinary(); err != nil || !bytes.Equal(again, b) || p.Offset < 0 {
			t.Errorf("%x is accepted as %+v and encoded as %x, %v", b, p, again, err)
		}
	})
}

// FuzzKey takes any bytes apart as the key of a position: ErrCorrupt, or parts that make the same key, which is found under its group's prefix and no
// other's.
func FuzzKey(f *testing.F) {
	f.Add(Key(7, "billing", 9))
	f.Add(Key(0, "", 0))
	f.Add(Key(1<<63, "with\x00zero", 1<<63))
	f.Add([]byte("g"))
	f.Fuzz(func(t *testing.T, b []byte) {
		topic, name, partition, err := ParseKey(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v, want ErrCorrupt", err)
			}
			return
		}
		if again := Key(topic, name, partition); !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encoded as %x", b, again)
		}
		if !bytes.HasPrefix(b, Prefix(topic, name)) || bytes.HasPrefix(b, Prefix(topic, name+"x")) {
			t.Errorf("%x is not where the positions of group %q of topic %d are", b, name, topic)
		}
	})
}
