package main

import "testing"

func TestTheExampleRuns(t *testing.T) {
	if err := run(t.TempDir()); err != nil {
		t.Fatal(err)
	}
}
