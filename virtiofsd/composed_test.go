package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storeboot/virtiofsd/bigtablestore/bigtabletest"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/objectstore/s3test"
)

// TestBigtableEmulator is the emulator when a test starts it.
func TestBigtableEmulator(t *testing.T) { bigtabletest.Serve(t) }

// TestAllRestart has a store of blobs in S3 and directories and path infos in
// Bigtable behind a daemon, and kills the S3 server, the emulator and the daemon
// at once, some of the time while a client imports: what was reported as stored
// is there, byte for byte, when all have been started again.
func TestAllRestart(t *testing.T) {
	newStore(t)
	s3 := s3test.Start(t)
	bigtable := bigtabletest.Start(t, "TestBigtableEmulator")
	table := bigtable.Table(t, "store") + "&timeout=30"
	backends := []string{
		"--blob-service-addr", s3.Bucket(t, "store", "prefix"),
		"--directory-service-addr", table,
		"--path-info-service-addr", table,
	}
	socket := filepath.Join(shortDir(t), "s")
	start := func() daemonRun {
		d := daemonRun{process(append([]string{"daemon", "-l", socket, "--log-level", "error"}, backends...)...), "grpc+unix://" + socket}
		d.cmd.Stderr = os.Stderr
		if err := d.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = dialDaemon(t, socket).Close()
		return d
	}
	d := start()
	defer func() { d.kill() }()
	killAll := func() {
		d.kill()
		bigtable.Kill(t)
		s3.Kill(t)
		bigtable.Run(t)
		s3.Run(t)
		d = start()
	}
	content := string(castoretest.Pattern(3<<20, 1)) // of several chunks
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, map[string]string{"large": content, "dir/small": "small", "dir/run*": "#!", "link": "-> dir/small"})
	path := strings.TrimSpace(must(t, append([]string{"import", src}, d.flags("")...)...))
	nar := must(t, append([]string{"export", path}, d.flags("")...)...)
	paths := []string{path}
	for round := range 3 {
		// The client may or may not end before the servers do.
		cmd := process(append([]string{"import", smallTree(t, 10*round+1), smallTree(t, 10*round+2)}, d.flags("")...)...)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		killAll()
		_ = cmd.Wait()
		paths = append(paths, strings.Fields(out.String())...)
		for _, flags := range [][]string{d.flags(""), backends} { // with the daemon and without
			list := strings.Fields(must(t, append([]string{"list"}, flags...)...))
			for _, p := range paths {
				if !slices.Contains(list, p) {
					t.Errorf("round %d: %s was reported as stored and is not there", round, p)
				}
			}
			if got := must(t, append([]string{"export", path}, flags...)...); got != nar {
				t.Errorf("round %d: the NAR of %s has %d other bytes", round, path, len(got))
			}
			must(t, append([]string{"verify"}, flags...)...)
		}
	}
}
