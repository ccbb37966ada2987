package bootproto

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
)

func TestFrames(t *testing.T) {
	list := []Frame{
		{FrameHello, 0, []byte{}},
		{FrameStdin, 7, []byte("data")},
		{FrameStdout, 1, bytes.Repeat([]byte{0xff}, MaxFrame)},
		TakenFrame(3, 70000),
		ResizeFrame(4, 50, 132),
	}
	var b bytes.Buffer
	for _, f := range list {
		if err := WriteFrame(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	whole := bytes.Clone(b.Bytes())
	for _, want := range list {
		got, err := ReadFrame(&b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got type %d, stream %d, %d bytes, %v", got.Type, got.Stream, len(got.Data), err)
		}
	}
	if _, err := ReadFrame(&b); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, err := ReadFrame(bytes.NewReader(whole[:15])); err != nil {
		t.Errorf("the first: %v", err)
	}
	for _, n := range []int{5, 13, 26} {
		r := bytes.NewReader(whole[:n])
		var err error
		for err == nil {
			_, err = ReadFrame(r)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut off at %d: %v", n, err)
		}
	}
	if n := list[3].Taken(); n != 70000 {
		t.Errorf("taken %d", n)
	}
	if rows, columns, ok := list[4].Size(); rows != 50 || columns != 132 || !ok {
		t.Errorf("size %d, %d, %v", rows, columns, ok)
	}
	if err := WriteFrame(io.Discard, Frame{Type: FrameStdin, Data: make([]byte, MaxFrame+1)}); err == nil {
		t.Error("a frame that is too long was written")
	}
}

func TestExecSpec(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"version":1,"argv":["sh","-c","x"],"env":["A=b"],"dir":"/tmp","terminal":true,"rows":3,"columns":4}`: true,
		`{"version":2,"argv":["sh"]}`:              false,
		`{"version":1,"argv":[]}`:                  false,
		`{"version":1,"argv":["sh"],"env":["=x"]}`: false,
		`{"version":1,"argv":["sh"],"dir":"x"}`:    false,
		`{"version":1,"argv":["sh"],"more":1}`:     false,
	} {
		if _, err := ParseExecSpec([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzFrame holds that no bytes make ReadFrame panic or take more than a frame,
// and that what it reads is written as it was.
func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	for _, x := range []Frame{{FrameExec, 1, []byte(`{"version":1,"argv":["x"]}`)}, TakenFrame(1, 9), ResizeFrame(1, 2, 3)} {
		_ = WriteFrame(&b, x)
		f.Add(bytes.Clone(b.Bytes()))
	}
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			at := len(data) - r.Len()
			x, err := ReadFrame(r)
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := WriteFrame(&again, x); err != nil || !bytes.HasPrefix(data[at:], again.Bytes()) {
				t.Fatalf("read %+v, written as %x (%v)", x, again.Bytes(), err)
			}
			_, _ = ParseExecSpec(x.Data)
			x.Taken()
			x.Size()
		}
	})
}
