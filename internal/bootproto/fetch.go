package bootproto

import "fmt"

// FetchProgress is how far the store daemon's downloads from binary caches are:
// one line of JSON that it writes to the descriptor given by --progress-fd
// whenever it changes. The numbers only grow, but for Active.
type FetchProgress struct {
	// PathsKnown are the paths that were asked for or are known to be needed;
	// PathsDone those of them that are in the store, PathsFailed those that could
	// not be fetched.
	PathsKnown  int64 `json:"pathsKnown"`
	PathsDone   int64 `json:"pathsDone"`
	PathsFailed int64 `json:"pathsFailed"`
	// BytesKnown are to be downloaded as far as it is known, BytesDone are.
	BytesKnown int64 `json:"bytesKnown"`
	BytesDone  int64 `json:"bytesDone"`
	// Requests to the caches, with repeats.
	Requests int64 `json:"requests"`
	// Active is how many paths are being downloaded.
	Active int64 `json:"active"`
}

// ParseFetchProgress parses one line.
func ParseFetchProgress(line []byte) (FetchProgress, error) {
	var p FetchProgress
	if err := strict(line, &p); err != nil {
		return p, fmt.Errorf("progress of the store daemon: %w", err)
	}
	return p, nil
}
