package log

import "testing"

func TestARecordThatCannotBeDecodedIsAnErrorAgainAndAgain(t *testing.T) {
	b := NewBuilder(1)
	b.Begin(FrameMeta{})
	for range 3 {
		if err := b.Append(0, nil, []byte("value"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.End(); err != nil {
		t.Fatal(err)
	}
	frame := b.Bytes()
	h, err := ParseFrameHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	frame[FrameHeaderSize+h.BodyLen/3+2] = 200 // the second value's length
	h.put(1, frame)
	f, err := (&Decoder{}).Decode(1, frame)
	if err != nil {
		t.Fatal(err)
	}
	var rec Record
	if ok, err := f.Next(&rec); !ok || err != nil {
		t.Fatalf("the first record: %t, %v", ok, err)
	}
	for range 3 {
		if ok, err := f.Next(&rec); ok || err == nil || f.Offset() != 1 {
			t.Errorf("the second record: %t, %v, offset %d; want an error, which keeps its place", ok, err, f.Offset())
		}
	}
}
