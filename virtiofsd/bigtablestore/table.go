package bigtablestore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"cloud.google.com/go/bigtable"
	"google.golang.org/api/option"
)

// maxValue is the longest value in bytes: the limit that Bigtable recommends for
// a cell and that snix holds to.
const maxValue = 10 << 20

// A batch is what one request writes.
const (
	batchRows  = 1000
	batchBytes = 4 << 20
)

var errNoRow = errors.New("no such row")

// row is a key with its value.
type row struct {
	key   string
	value []byte
}

// table is the table and family that an address names.
type table struct {
	address address
	client  *bigtable.Client
	table   *bigtable.Table
}

// open makes a client. No request is made.
func open(ctx context.Context, raw string) (*table, error) {
	a, err := parseAddress(raw)
	if err != nil {
		return nil, err
	}
	scope := bigtable.Scope
	if a.readOnly {
		scope = bigtable.ReadonlyScope
	}
	// The client goes on using its context.
	client, err := bigtable.NewClientWithConfig(context.WithoutCancel(ctx), a.project, a.instance, bigtable.ClientConfig{
		AppProfile:      a.profile,
		MetricsProvider: bigtable.NoopMetricsProvider{},
		DisableSession:  true,
	}, option.WithScopes(scope), option.WithGRPCConnectionPool(a.channels))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", a, err)
	}
	return &table{a, client, client.Open(a.table)}, nil
}

func (t *table) Close() error { return t.client.Close() }

// limited runs a request with its limit of time.
func (t *table) limited(ctx context.Context, timeout time.Duration, request func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := request(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return fmt.Errorf("%s: no answer within %s: %w", t.address, timeout, err)
	}
	return fmt.Errorf("%s: %w", t.address, err)
}

// family filters the newest cell of each column of the family.
func (t *table) family() bigtable.Filter {
	return bigtable.ChainFilters(bigtable.FamilyFilter(regexp.QuoteMeta(t.address.family)), bigtable.LatestNFilter(1))
}

// value finds the one cell that counts in a row.
func (t *table) value(r bigtable.Row) ([]byte, bool) {
	for _, item := range r[t.address.family] {
		if item.Column == t.address.family+":"+item.Row {
			return item.Value, true
		}
	}
	return nil, false
}

// get returns the value of a row, or errNoRow.
func (t *table) get(ctx context.Context, key string) (value []byte, err error) {
	err = t.limited(ctx, t.address.timeout, func(ctx context.Context) error {
		r, err := t.table.ReadRow(ctx, key, bigtable.RowFilter(t.family()))
		if err != nil {
			return err
		}
		v, ok := t.value(r)
		if !ok {
			return errNoRow
		}
		value = v
		return nil
	})
	return value, err
}

// page returns up to n rows whose keys are of the form pattern, in order, from
// the key start on.
func (t *table) page(ctx context.Context, start, pattern string, n int64, timeout time.Duration) (rows []row, err error) {
	filter := bigtable.ChainFilters(bigtable.RowKeyFilter(pattern), t.family())
	err = t.limited(ctx, timeout, func(ctx context.Context) error {
		rows = nil
		return t.table.ReadRows(ctx, bigtable.InfiniteRange(start), func(r bigtable.Row) bool {
			value, _ := t.value(r)
			rows = append(rows, row{r.Key(), value})
			return true
		}, bigtable.RowFilter(filter), bigtable.LimitRows(n))
	})
	return rows, err
}

// missing returns those of rows whose keys are not in the table.
func (t *table) missing(ctx context.Context, rows []row) (absent []row, err error) {
	keys := make(bigtable.RowList, len(rows))
	for i := range rows {
		keys[i] = rows[i].key
	}
	there := map[string]bool{}
	err = t.limited(ctx, t.address.timeout, func(ctx context.Context) error {
		return t.table.ReadRows(ctx, keys, func(r bigtable.Row) bool {
			if _, ok := t.value(r); ok {
				there[r.Key()] = true
			}
			return true
		}, bigtable.RowFilter(bigtable.ChainFilters(t.family(), bigtable.StripValueFilter())))
	})
	for _, r := range rows {
		if !there[r.key] {
			absent = append(absent, r)
		}
	}
	return absent, err
}

// put writes rows in batches. What is there is replaced.
func (t *table) put(ctx context.Context, rows []row) error {
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && n < batchRows && (n == 0 || size+len(rows[n].value) <= batchBytes) {
			size += len(rows[n].value)
			n++
		}
		if err := t.putBatch(ctx, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (t *table) putBatch(ctx context.Context, rows []row) error {
	// A time of ours, not the server's, makes a repeat harmless, so that the
	// client repeats by itself.
	now := bigtable.Now().TruncateToMilliseconds()
	keys := make([]string, len(rows))
	mutations := make([]*bigtable.Mutation, len(rows))
	for i, r := range rows {
		keys[i] = r.key
		mutations[i] = bigtable.NewMutation()
		mutations[i].DeleteCellsInColumn(t.address.family, r.key)
		mutations[i].Set(t.address.family, r.key, now, r.value)
	}
	return t.limited(ctx, t.address.timeout, func(ctx context.Context) error {
		failed, err := t.table.ApplyBulk(ctx, keys, mutations)
		if err != nil {
			return err
		}
		return errors.Join(failed...)
	})
}

// writable says why nothing can be written, if so.
func (t *table) writable() error {
	if t.address.readOnly {
		return fmt.Errorf("%s is opened with is_read_only=true", t.address)
	}
	return nil
}

func checkValue(key string, value []byte) error {
	if len(value) > maxValue {
		return fmt.Errorf("the encoding of %s has %d bytes, and a cell holds at most %d", key, len(value), maxValue)
	}
	return nil
}
