package ingest

import "storeboot/virtiofsd/castore"

// storeFiles stores files until there are no more.
func storeFiles(p *pipe, blobs castore.BlobService) error {
	for {
		f, ok, err := receive(p.ctx, p.files)
		if !ok || err != nil {
			return err
		}
		if f.digest, err = storeFile(p, blobs, f); err != nil {
			return err
		}
		close(f.done)
	}
}

func storeFile(p *pipe, blobs castore.BlobService, f *file) (castore.Digest, error) {
	w, err := blobs.Create(p.ctx)
	if err != nil {
		return castore.Digest{}, err
	}
	defer w.Abort()
	for left := f.size; left > 0; {
		c, _, err := receive(p.ctx, f.content)
		if err != nil {
			return castore.Digest{}, err
		}
		left -= uint64(len(c.buf))
		_, err = w.Write(c.buf)
		c.release()
		if err != nil {
			return castore.Digest{}, err
		}
	}
	return w.Close()
}
