package bootproto

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"storeboot/internal/strictjson"
)

// fill gives every part of v a value that is not the zero one.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint32:
		v.SetUint(uint64(*n))
	default:
		panic(v.Kind())
	}
}

// TestReadAll holds that init reads all that encoding/json writes of what it is
// told: a key that is new in a struct has to be read too.
func TestReadAll(t *testing.T) {
	readAll(t, (*BootSpec).read)
	readAll(t, (*RunSpec).read)
	readAll(t, (*Control).read)
	readAll(t, (*ExecSpec).read)
}

func readAll[T any](t *testing.T, read func(*T, *strictjson.Reader) error) {
	var want, got T
	n := 0
	fill(reflect.ValueOf(&want).Elem(), &n)
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := parse(data, func(r *strictjson.Reader) error { return read(&got, r) }); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%T: %v; read as %+v", want, err, got)
	}
}

// TestEncodeReport holds that what init writes of a report is all of it.
func TestEncodeReport(t *testing.T) {
	var full Report
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	for _, want := range []Report{{}, full, {Version: 1, Outcome: OutcomeExited, Steps: []StepTime{{Name: "a"}}}} {
		data, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var got Report
		if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", data, got, err, want)
		}
	}
	full.Message = string(make([]byte, MaxReport))
	if data, err := full.Encode(); err == nil {
		t.Errorf("a report of %d bytes", len(data))
	}
}
