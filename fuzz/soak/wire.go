package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/braid-go/braid/fuzz/history"
)

// What a child says is a sequence of frames: a byte that tells what follows, and then an event of fixed size, or a length of two bytes and a note. A
// frame is one write of less than PIPE_BUF bytes, so that a kill leaves whole frames.
const (
	frameEvent = 'e'
	frameNote  = 'n'
	maxNote    = 4000
)

// note is what a child says beside the events of its history.
type note struct {
	What       string
	Topic      string           `json:",omitempty"`
	Partitions []uint64         `json:",omitempty"`
	Offsets    map[uint64]int64 `json:",omitempty"`
	Error      string           `json:",omitempty"`
}

// What notes say. Something that changes the topics is said before it begins, and again when it has succeeded.
const (
	noteMade      = "made"      // a topic has these partitions
	noteDeleting  = "deleting"  // a topic with these partitions
	noteDeleted   = "deleted"   // a topic with these partitions
	noteRelaying  = "relaying"  // a topic
	noteResetting = "resetting" // the positions of a group, to these
	noteReset     = "reset"     // it has got them
	noteNotReset  = "not reset" // and certainly has not
	noteFault     = "fault"     // the one that it was to meet has begun
	noteClosing   = "closing"
	noteFailed    = "failed" // something that may not; the Error
	noteCount     = "count"  // of Topic one more
)

// voice is where a child says things.
type voice struct {
	mu sync.Mutex
	w  io.Writer
}

// say writes a frame. There is nobody to tell if that fails: whoever listens is gone, and with the next write the system ends the process.
func (v *voice) say(frame []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, _ = v.w.Write(frame)
}

func (v *voice) event(e history.Event) {
	frame, err := binary.Append([]byte{frameEvent}, binary.LittleEndian, e)
	if err != nil {
		panic(err) // an Event has a fixed size
	}
	v.say(frame)
}

func (v *voice) note(n note) {
	text, err := json.Marshal(n)
	if err != nil || len(text) > maxNote {
		text, _ = json.Marshal(note{What: noteFailed, Error: fmt.Sprintf("a note of %d bytes, %v", len(text), err)})
	}
	v.say(append(binary.LittleEndian.AppendUint16([]byte{frameNote}, uint16(len(text))), text...))
}

// listen hears what a child says until it says no more.
func listen(from io.Reader, event func(history.Event), heard func(note)) error {
	r := bufio.NewReaderSize(from, 1<<16)
	buf := make([]byte, max(maxNote, binary.Size(history.Event{})))
	for {
		kind, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		size := binary.Size(history.Event{})
		if kind == frameNote {
			if _, err := io.ReadFull(r, buf[:2]); err != nil {
				return err
			}
			size = int(binary.LittleEndian.Uint16(buf))
		}
		if kind != frameNote && kind != frameEvent || size > len(buf) {
			return fmt.Errorf("a frame that begins with %q, of %d bytes", kind, size)
		}
		if _, err := io.ReadFull(r, buf[:size]); err != nil {
			return err
		}
		if kind == frameEvent {
			var e history.Event
			if _, err := binary.Decode(buf[:size], binary.LittleEndian, &e); err != nil {
				return err
			}
			event(e)
			continue
		}
		var n note
		if err := json.Unmarshal(buf[:size], &n); err != nil {
			return err
		}
		heard(n)
	}
}
