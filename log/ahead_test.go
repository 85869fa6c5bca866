package log

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func TestRecordsEncodedAheadMakeTheSameFrame(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	some := func(most int) []byte {
		switch rng.IntN(8) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		b := make([]byte, rng.IntN(most))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	var a Ahead
	for range 200 {
		meta := FrameMeta{Base: 5, PrevEnd: 5, AppendTime: rng.Int64N(1 << 40), Codec: Codec(rng.IntN(3))}
		want, got := NewBuilder(7), NewBuilder(7)
		want.Begin(meta)
		got.Begin(meta)
		a.Reset()
		records := rng.IntN(60)
		for range records {
			key, value := some(300), some(4000)
			var headers []Header
			for range rng.IntN(3) {
				headers = append(headers, Header{string(some(10)), some(200)})
			}
			if err := errors.Join(want.Append(meta.AppendTime, key, value, headers), a.Append(key, value, headers)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range a.Parts() {
			if err := got.AppendAhead(&a, i); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(want.End(), got.End()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Fatalf("%d records in %d parts make another frame than when they are encoded in place", records, a.Parts())
		}
	}
}

func TestPartsOfWhatIsEncodedAheadAreBounded(t *testing.T) {
	var a Ahead
	const records = 100
	for range records {
		if err := a.Append(nil, make([]byte, 5000), nil); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for i := range a.Parts() {
		body, n := a.part(i)
		total += n
		if len(body) > aheadPart+RecordSize(nil, make([]byte, 5000), nil) || len(body) < aheadPart && i < a.Parts()-1 {
			t.Errorf("part %d of %d has %d bytes", i, a.Parts(), len(body))
		}
	}
	if total != records {
		t.Errorf("%d records in all parts, want %d", total, records)
	}
}

func TestARecordAheadBeyondTheHardLimitIsRefused(t *testing.T) {
	var a Ahead
	if err := a.Append(nil, make([]byte, MaxRecordBytes+1), nil); !errors.Is(err, ErrLimit) || a.Parts() != 0 || a.Cap() != 0 {
		t.Errorf("error %v, %d parts, %d bytes", err, a.Parts(), a.Cap())
	}
	b := NewBuilder(0)
	b.Begin(FrameMeta{})
	if err := b.Append(0, nil, make([]byte, MaxRecordBytes), nil); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := a.Append(nil, make([]byte, 4<<20), nil); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	added := 0
	for i := 0; i < a.Parts() && err == nil; i++ {
		if err = b.AppendAhead(&a, i); err == nil {
			added++
		}
	}
	if !errors.Is(err, ErrLimit) || b.FrameRecords() != 1+added || b.FrameBytes() > MaxFrameBytes {
		t.Errorf("error %v, %d records in a frame of %d bytes", err, b.FrameRecords(), b.FrameBytes())
	}
}
