package narbridge

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// sendPiece is how much of a file is sent under one deadline, in bytes.
const sendPiece = 4 << 20

// response is a ResponseWriter whose client has to take something all the time.
// It notes the status and the number of bytes of the body.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	idle    time.Duration
	status  int
	sent    int64
}

func newResponse(w http.ResponseWriter, idle time.Duration) *response {
	r := &response{ResponseWriter: w, control: http.NewResponseController(w), idle: idle}
	r.extend()
	return r
}

// extend lets the client take something for another while. What cannot have
// deadlines (a test's recorder) does without.
func (r *response) extend() { _ = r.control.SetWriteDeadline(time.Now().Add(r.idle)) }

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(status int) {
	r.extend()
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (r *response) Write(p []byte) (int, error) {
	r.begin()
	r.extend()
	n, err := r.ResponseWriter.Write(p)
	r.sent += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom: what is limited to a number of bytes is
// copied in pieces, by the kernel if it is a file.
func (r *response) ReadFrom(src io.Reader) (total int64, err error) {
	r.begin()
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{r}, src)
	}
	if narfile, ok := limited.R.(*narFile); ok {
		return narfile.copyTo(r, limited)
	}
	for limited.N > 0 {
		r.extend()
		piece := min(limited.N, sendPiece)
		n, err := io.Copy(r.ResponseWriter, &io.LimitedReader{R: limited.R, N: piece})
		total += n
		limited.N -= n
		r.sent += n
		if err != nil || n < piece {
			return total, err
		}
	}
	return total, nil
}

// begin notes the status that the first byte of a body implies.
func (r *response) begin() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
}

var errSlow = errors.New("the client sends too slowly")

// body reads the body of a request from a client that has to send something all
// the time, and minRate on the whole. err is the first error but io.EOF.
type body struct {
	r       io.Reader
	control *http.ResponseController
	idle    time.Duration
	began   time.Time
	n       int64
	err     error
}

func newBody(w *response, r *http.Request) *body {
	return &body{r: r.Body, control: w.control, idle: w.idle, began: time.Now()}
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	_ = b.control.SetReadDeadline(time.Now().Add(b.idle))
	n, err := b.r.Read(p)
	b.n += int64(n)
	late := time.Since(b.began) - b.idle
	switch {
	case err == io.EOF:
		// The server goes on reading, to see the connection end.
		_ = b.control.SetReadDeadline(time.Time{})
	case err != nil:
		b.err = err
	case late > 0 && b.n < int64(late.Seconds()*minRate):
		b.err = errSlow
		return n, errSlow
	}
	return n, err
}
