package narinfo

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"storeboot/virtiofsd/castore"
)

// The URLs of NARs that are named by what they hold: tvix and snix differ in
// one word.
const (
	TvixCastore = "tvix-castore"
	SnixCastore = "snix-castore"
)

// maxNode is the longest node in a URL, in bytes before base64, as nar-bridge
// has it.
const maxNode = 4096

// CastoreURL is the URL, relative to that of the cache, of the NAR that holds
// node: nar/KIND/NODE?narsize=N, where KIND is [TvixCastore] or [SnixCastore] and
// NODE the base64url of the protobuf message, without a name and without
// padding.
func CastoreURL(kind string, node castore.Node, narSize uint64) string {
	message := castore.AppendEntry(nil, castore.Entry{Node: node})
	return "nar/" + kind + "/" + base64.RawURLEncoding.EncodeToString(message) + "?narsize=" + strconv.FormatUint(narSize, 10)
}

// ParseCastoreURL parses what [CastoreURL] makes, behind any path. ok is false if
// u is no such URL; err says what is wrong with one.
func ParseCastoreURL(u string) (node castore.Node, narSize uint64, ok bool, err error) {
	parsed, err := url.Parse(u)
	if err != nil {
		return node, 0, false, nil
	}
	dir, last, _ := cutLast(parsed.Path)
	_, kind, _ := cutLast(dir)
	if kind != TvixCastore && kind != SnixCastore {
		return node, 0, false, nil
	}
	if node, err = ParseNode(last); err != nil {
		return node, 0, true, err
	}
	size := parsed.Query().Get("narsize")
	narSize, err = strconv.ParseUint(size, 10, 63)
	if err != nil {
		return node, 0, true, fmt.Errorf("narsize %q of the NAR's URL is not a number of bytes", size)
	}
	return node, narSize, true, nil
}

func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// ParseNode parses the NODE of [CastoreURL].
func ParseNode(s string) (castore.Node, error) {
	if base64.RawURLEncoding.DecodedLen(len(s)) > maxNode {
		return castore.Node{}, fmt.Errorf("node of a URL longer than %d bytes", maxNode)
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return castore.Node{}, fmt.Errorf("node of a URL: %w", err)
	}
	e, err := castore.ParseEntry(raw)
	if err != nil {
		return castore.Node{}, fmt.Errorf("node of a URL: %w", err)
	}
	if e.Name != "" {
		return castore.Node{}, fmt.Errorf("node of a URL: it has a name, %q", e.Name)
	}
	return e.Node, nil
}
