package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"storeboot/internal/bootproto"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/storefs"
)

// metricsHelp is the help of every --metrics flag.
const metricsHelp = "serve metrics for Prometheus at /metrics on this `ADDR`: IP:PORT, :PORT (loopback only), /PATH (a unix socket), sd-listen:NAME"

// served is a view that guests use, under the name of its socket.
type served struct {
	name string
	fs   *storefs.FS
}

// fsCollector gives what storefs counts the form of Prometheus. Nothing is done
// for it while requests are handled but the counting itself.
type fsCollector struct {
	views func() []served // those there are now, at least one
}

var (
	requestsDesc    = prometheus.NewDesc("virtiofsd_fuse_requests_total", "FUSE requests of guests.", []string{"socket", "opcode"}, nil)
	errorsDesc      = prometheus.NewDesc("virtiofsd_fuse_errors_total", "FUSE requests that were answered with an error. Names that do not exist are none.", []string{"socket", "opcode"}, nil)
	durationDesc    = prometheus.NewDesc("virtiofsd_fuse_request_duration_seconds", "Time from taking a request to its answer.", []string{"socket", "opcode"}, nil)
	readBytesDesc   = prometheus.NewDesc("virtiofsd_read_bytes_total", "Contents of files that went to guests.", []string{"socket"}, nil)
	mountsDesc      = prometheus.NewDesc("virtiofsd_mounts_total", "FUSE_INITs of guests.", []string{"socket"}, nil)
	connectionsDesc = prometheus.NewDesc("virtiofsd_connections", "VMMs that are connected.", []string{"socket"}, nil)
	cacheDesc       = prometheus.NewDesc("virtiofsd_cache_requests_total", "Look-ups in the caches that all sockets share.", []string{"cache", "result"}, nil)
	aheadDesc       = prometheus.NewDesc("virtiofsd_directories_prefetched_total", "Directories of a store far away that came before they were asked for.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c *fsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, errorsDesc, durationDesc, readBytesDesc, mountsDesc, connectionsDesc, cacheDesc, aheadDesc} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *fsCollector) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	views := c.views()
	for _, v := range views {
		stats := v.fs.Stats()
		counter(readBytesDesc, stats.ReadBytes.Load(), v.name)
		counter(mountsDesc, stats.Mounts.Load(), v.name)
		out <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(stats.Sessions.Load()), v.name)
		for op, name := range stats.Used() {
			counter(requestsDesc, op.Count.Load(), v.name, name)
			counter(errorsDesc, op.Errors.Load(), v.name, name)
			buckets := map[float64]uint64{}
			below := uint64(0)
			for i := range storefs.Buckets - 1 {
				below += op.Histogram[i].Load()
				buckets[float64(uint64(1)<<i)/1e6] = below
			}
			below += op.Histogram[storefs.Buckets-1].Load()
			out <- prometheus.MustNewConstHistogram(durationDesc, below, float64(op.Nanoseconds.Load())/1e9, buckets, v.name, name)
		}
	}
	if len(views) == 0 {
		return
	}
	caches := views[0].fs.Caches()
	counter(cacheDesc, caches.DirectoryHits.Load(), "directory", "hit")
	counter(cacheDesc, caches.DirectoryMisses.Load(), "directory", "miss")
	counter(cacheDesc, caches.BlobHits.Load(), "blob", "hit")
	counter(cacheDesc, caches.BlobMisses.Load(), "blob", "miss")
	counter(aheadDesc, caches.DirectoriesAhead.Load())
}

// serveMetrics serves metrics at addr, unless that is empty, until the function
// that it returns is called.
func serveMetrics(addr string, views func() []served, log *slog.Logger) (end func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	listeners, err := grpcserver.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&fsCollector{views}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				log.Error("metrics", "error", err)
			}
		})
	}
	log.Info("listening", "service", "metrics", "addresses", grpcserver.Addresses(listeners))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
		serving.Wait()
	}, nil
}

// countRequests is what was counted, for whoever started us.
func countRequests(stats *storefs.Stats) (list []bootproto.StoreRequests) {
	for op, name := range stats.Used() {
		list = append(list, bootproto.StoreRequests{
			Opcode: name, Count: op.Count.Load(), Errors: op.Errors.Load(), Micros: op.Nanoseconds.Load() / 1000,
		})
	}
	return list
}
