package pathinfo

import (
	"crypto/md5"  // content addresses may be MD5
	"crypto/sha1" // or SHA-1
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// NewHash is the hash that content addresses of the type are made with; nil if
// there is no such type. ofFile says that it is that of the contents of a file,
// which is not executable, and else that of the NAR.
func (t CAType) NewHash() (h hash.Hash, ofFile bool) {
	switch t {
	case CANARSHA256, CATextSHA256, CAFlatSHA256:
		h = sha256.New()
	case CANARSHA1, CAFlatSHA1:
		h = sha1.New() // the path says so
	case CANARSHA512, CAFlatSHA512:
		h = sha512.New()
	case CANARMD5, CAFlatMD5:
		h = md5.New() // the path says so
	}
	return h, t >= CATextSHA256
}
