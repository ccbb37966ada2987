package grpcstore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
)

// certificate makes a certificate of 127.0.0.1 that signs itself, and a PEM file
// of it.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestTLSAndToken(t *testing.T) {
	cert, ca := certificate(t)
	w := memory()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpcserver.New(w.blobs, w.directories, w.pathInfos, grpcserver.Options{Token: "secret", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	defer func() {
		s.Shutdown(context.Background())
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return url.QueryEscape(path)
	}
	good, bad, empty := write("good", "secret\n"), write("bad", "other"), write("empty", "\n")
	caQuery := "?ca-file=" + url.QueryEscape(ca)
	address := "grpc+https://" + l.Addr().String()
	blobs := dial(t, address+caQuery+"&token-file="+good, grpcstore.Options{}).Blobs()
	content := castoretest.Pattern(1<<20, 0)
	d := castoretest.PutBlob(t, blobs, content)
	if got, err := castoretest.GetBlob(blobs, d); err != nil || len(got) != len(content) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	for name, tt := range map[string]struct{ address, text string }{
		"no token":        {address + caQuery, "token-file=PATH"},
		"wrong token":     {address + caQuery + "&token-file=" + bad, "token-file=PATH"},
		"unknown signer":  {address + "?token-file=" + good, "certificate"},
		"no TLS":          {"grpc+http://" + l.Addr().String(), "is it running"},
		"empty token":     {address + caQuery + "&token-file=" + empty, "is empty"},
		"no certificates": {address + "?ca-file=" + bad, "no certificate"},
	} {
		c, err := grpcstore.Dial(t.Context(), tt.address, grpcstore.Options{Timeout: 10 * time.Second})
		if err == nil {
			_, err = c.Blobs().Has(t.Context(), [32]byte{1})
			_ = c.Close()
		}
		wantError(t, name, err, tt.text)
	}
}
