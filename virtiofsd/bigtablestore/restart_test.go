package bigtablestore

import (
	"context"
	"fmt"
	"testing"

	"storeboot/virtiofsd/bigtablestore/bigtabletest"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

// TestEmulator is the emulator when a test starts it.
func TestEmulator(t *testing.T) { bigtabletest.Serve(t) }

// TestRestart holds that what was stored is there after the emulator was killed,
// for who had it open and for who opens it then.
func TestRestart(t *testing.T) {
	server := bigtabletest.Start(t, "TestEmulator")
	url := server.Table(t, "store") + "&timeout=60"
	dirs, infos := openDirectories(t, url), openPathInfos(t, url)
	defer dirs.Close()
	defer infos.Close()
	for round := range 3 {
		leaf := castoretest.NewDirectory(t, castore.Entry{Name: fmt.Sprint(round), Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
		root := castoretest.NewDirectory(t, castoretest.Sub("leaf", leaf))
		if _, err := castoretest.PutDirectories(dirs, leaf, root); err != nil {
			t.Fatal(err)
		}
		p := pathinfotest.Bare(fmt.Sprint("p", round))
		if _, err := infos.Put(context.Background(), p); err != nil {
			t.Fatal(err)
		}
		server.Kill(t)
		server.Run(t)
		fresh := openDirectories(t, url)
		for _, s := range []castore.DirectoryService{dirs, fresh} {
			n := 0
			for _, err := range s.Closure(context.Background(), root.Digest()) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != 2 {
				t.Errorf("round %d: a tree of %d directories", round, n)
			}
		}
		fresh.Close()
		count := 0
		for _, err := range infos.List(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if count != round+1 {
			t.Errorf("round %d: %d path infos", round, count)
		}
	}
}
