package bootproto

import (
	"encoding/json"
	"testing"
)

func TestParseFetchProgress(t *testing.T) {
	want := FetchProgress{PathsKnown: 3, PathsDone: 1, PathsFailed: 1, BytesKnown: 100, BytesDone: 50, Requests: 7, Active: 1}
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseFetchProgress(line); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, line := range []string{"", "{", `{"paths":1}`, `{"pathsKnown":"1"}`} {
		if _, err := ParseFetchProgress([]byte(line)); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}
