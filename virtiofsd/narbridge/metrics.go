package narbridge

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the counters of one server.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec   // by route, method, status
	took     *prometheus.HistogramVec // by route, method; seconds
	received prometheus.Counter       // bytes of bodies
	sent     prometheus.Counter
	inFlight prometheus.Gauge
	nars     prometheus.Counter
	narBytes prometheus.Counter
	paths    prometheus.Counter
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	m := &metrics{
		handler: promhttp.HandlerFor(r, promhttp.HandlerOpts{}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "narbridge_requests_total", Help: "Requests that were answered.",
		}, []string{"route", "method", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "narbridge_request_seconds", Help: "Time from the header of a request to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10), // to 262 s
		}, []string{"route", "method"}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "narbridge_received_bytes_total", Help: "Bytes of the bodies of requests."}),
		sent:     prometheus.NewCounter(prometheus.CounterOpts{Name: "narbridge_sent_bytes_total", Help: "Bytes of the bodies of answers."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "narbridge_requests_in_flight", Help: "Requests under way."}),
		nars:     prometheus.NewCounter(prometheus.CounterOpts{Name: "narbridge_nars_stored_total", Help: "NARs that were taken in."}),
		narBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "narbridge_nar_bytes_stored_total", Help: "Bytes of the NARs that were taken in, uncompressed."}),
		paths:    prometheus.NewCounter(prometheus.CounterOpts{Name: "narbridge_paths_stored_total", Help: "Path infos that were stored."}),
	}
	r.MustRegister(m.requests, m.took, m.received, m.sent, m.inFlight, m.nars, m.narBytes, m.paths)
	return m
}

// begin counts a request that begins; what it returns one that ends.
func (m *metrics) begin() func(route, method string, w *response, read int64, took time.Duration) {
	m.inFlight.Inc()
	return func(route, method string, w *response, read int64, took time.Duration) {
		m.inFlight.Dec()
		switch method { // a label that a client could make up
		case http.MethodGet, http.MethodHead, http.MethodPut:
		default:
			method = "other"
		}
		m.requests.WithLabelValues(route, method, strconv.Itoa(w.status)).Inc()
		m.took.WithLabelValues(route, method).Observe(took.Seconds())
		m.received.Add(float64(read))
		m.sent.Add(float64(w.sent))
	}
}
