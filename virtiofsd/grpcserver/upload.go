package grpcserver

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// directoryCost is what a directory of an upload takes in memory beside its
// encoding, in bytes: rows and entries of maps, here and in the store. It also
// bounds how many directories an upload can have.
const directoryCost = 512

// upload is what one upload of directories holds of Options.UploadMemory. It may
// hold half, so that no client alone can keep all others from storing.
type upload struct {
	server *Server
	begun  time.Time
	held   int64
}

// add takes memory for a directory of size bytes.
func (u *upload) add(size int) error {
	cost := int64(size) + directoryCost
	if u.held+cost > u.server.o.UploadMemory/2 {
		return status.Errorf(codes.ResourceExhausted, "the directories of the upload take more than %d bytes, which is all that one may: store the tree where the store is", u.server.o.UploadMemory/2)
	}
	if !u.server.uploads.TryAcquire(cost) {
		return status.Errorf(codes.ResourceExhausted, "the directories of all uploads under way take more than %d bytes: try again later", u.server.o.UploadMemory)
	}
	u.held += cost
	return nil
}

// checkTime says whether the upload may go on. That a client says nothing is
// found elsewhere (Options.Idle), so that it is enough to ask at each directory.
func (u *upload) checkTime() error {
	if time.Since(u.begun) > u.server.o.UploadTime {
		return status.Errorf(codes.ResourceExhausted, "the upload takes longer than %v, and its directories are held in memory: store a smaller tree first, or the tree where the store is", u.server.o.UploadTime)
	}
	return nil
}

func (u *upload) release() { u.server.uploads.Release(u.held) }
