package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// overwriting is a store that looks at no condition of a PUT.
type overwriting struct{ object.Store }

func (s overwriting) Put(ctx context.Context, key string, body object.Body, o object.PutOptions) (object.Info, error) {
	o.IfAbsent = false
	return s.Store.Put(ctx, key, body, o)
}

// A store that comes up after the broker is looked at all the same: what it lacks must not depend on who was first.
func TestStoreThatWasAwayAtTheStartIsCheckedWhenItAnswers(t *testing.T) {
	for _, row := range []struct {
		name  string
		store object.Store
		want  error // that ends the broker; nil: it goes on
	}{
		{"a good one", object.NewMem(), nil},
		{"one that overwrites", overwriting{object.NewMem()}, object.ErrUnsupported},
		{"one that denies access", object.WithFaults(object.NewMem(), func(context.Context, object.Op) error { return object.ErrAccess }), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var away atomic.Bool
				var asked atomic.Int64
				store := object.WithFaults(row.store, func(context.Context, object.Op) error {
					asked.Add(1)
					if away.Load() {
						return object.ErrUnavailable
					}
					return nil
				})
				b, err := New(Options{Settings: config.Defaults(), Objects: store})
				if err != nil {
					t.Fatal(err)
				}
				ctx, fail := context.WithCancelCause(t.Context())
				parts := &layers{fail: fail}
				away.Store(true)
				if err := b.openObjects(ctx, parts); err != nil {
					t.Fatalf("a store that is away: %v", err)
				}
				time.Sleep(time.Minute) // virtual
				if ctx.Err() != nil {
					t.Errorf("while it is away: %v", context.Cause(ctx))
				}
				away.Store(false)
				time.Sleep(time.Minute) // virtual
				if err := context.Cause(ctx); (err != nil) != (row.want != nil) || !errors.Is(err, row.want) {
					t.Errorf("ended by %v, want %v", err, row.want)
				}
				seen := asked.Load()
				time.Sleep(time.Hour) // virtual
				if again := asked.Load() != seen; again != (row.name == "one that denies access") {
					t.Errorf("asked again after its answer: %v", again)
				}
				if err := parts.stop(); (err != nil) != (row.want != nil) {
					t.Error(err)
				}
			})
		})
	}
}
