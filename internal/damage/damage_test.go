package damage

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestATearChangesItsRangeOnly(t *testing.T) {
	b := []byte("abcdefgh")
	for tear, want := range map[Tear]string{
		{"cut", 3, 8}:    "abc",
		{"zeros", 2, 4}:  "ab\x00\x00efgh",
		{"before", 2, 6}: "abCD\x00\x00gh",
	} {
		if got := string(tear.Apply(b, []byte("ABCD"))); got != want {
			t.Errorf("%v: %q, want %q", tear, got, want)
		}
	}
	garbage := Tear{"garbage", 2, 6}.Apply(b, nil)
	if !bytes.Equal(garbage[:2], b[:2]) || bytes.Equal(garbage[2:6], b[2:6]) || !bytes.Equal(garbage[6:], b[6:]) {
		t.Errorf("garbage: %q", garbage)
	}
	if string(b) != "abcdefgh" {
		t.Errorf("the original is %q", b)
	}
}

func TestTearsTakeEveryRangeOnce(t *testing.T) {
	seen := map[Tear]bool{}
	for tear := range Tears(2, 6, 1, "zeros", "garbage") {
		if seen[tear] || tear.From < 2 || tear.To > 6 || tear.From >= tear.To {
			t.Errorf("%v", tear)
		}
		seen[tear] = true
	}
	if want := 4 + 2*(4+3+2+1); len(seen) != want {
		t.Errorf("%d tears, want %d", len(seen), want)
	}
	some := 0
	for range Tears(0, 100, 7, "zeros") {
		some++
	}
	if some < 100+5050/8 || some > 100+5050/6 {
		t.Errorf("%d of 5150 tears with a step of 7", some)
	}
}

func TestAScriptIsItsEditsAndLeavesTheOriginalAlone(t *testing.T) {
	files := Files{"a": []byte("0123456789"), "b": []byte("bbbb")}
	for _, tc := range []struct {
		edit Edit
		want Files
	}{
		{Edit{Kind: EditFlip, Pos: 12, Arg: 9}, Files{"a": []byte("0103456789"), "b": []byte("bbbb")}},
		{Edit{Kind: EditZero, Pos: 8, Len: 500}, Files{"a": []byte("01234567\x00\x00"), "b": []byte("bbbb")}},
		{Edit{Kind: EditTruncate, Pos: 4}, Files{"a": []byte("0123"), "b": []byte("bbbb")}},
		{Edit{Kind: EditInsert, Pos: 1, Len: 2, Arg: 'x'}, Files{"a": []byte("0xx123456789"), "b": []byte("bbbb")}},
		{Edit{Kind: EditCopy, Pos: 1, Len: 2, Arg: 1}, Files{"a": []byte("0bbb456789"), "b": []byte("bbbb")}},
		{Edit{Kind: EditDelete, Pos: 1, Len: 2}, Files{"a": []byte("0456789"), "b": []byte("bbbb")}},
		{Edit{Kind: EditRemove, File: 3}, Files{"a": []byte("0123456789")}},
		{Edit{Kind: EditReplace, File: 1, Arg: 1}, Files{"a": []byte("0123456789"), "b": []byte("0123456789")}},
	} {
		edits := Parse(Bytes(tc.edit))
		if diff := cmp.Diff([]Edit{tc.edit}, edits); diff != "" {
			t.Error(diff)
		}
		got, done := files.Apply(edits)
		if diff := cmp.Diff(tc.want, got); diff != "" || len(done) != 1 {
			t.Error(done, diff)
		}
	}
	if got, done := files.Apply(Parse(make([]byte, 7))); len(done) != 0 || !cmp.Equal(got, files) {
		t.Errorf("an edit that is cut short does %v", done)
	}
}
