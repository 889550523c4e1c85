package broker

import (
	"context"

	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/metadata"
)

// applyQuotas takes over the client quotas of an image. What a later version may
// have written there, and this one does not enforce, is left out.
func (b *Broker) applyQuotas(im *metadata.Image) {
	var rules []quota.Rule
	for key, values := range im.Quotas() {
		e, err := quota.ParseEntity(string(key))
		if err != nil {
			b.log.Warn("client quota ignored", "entity", string(key), "err", err)
			continue
		}
		for name, value := range values {
			r := quota.Rule{Entity: e, Value: value}
			known := false
			if r.Kind, known = quota.ParseKind(name); !known || r.Validate() != nil {
				b.log.Warn("client quota ignored", "entity", string(key), "quota", name)
				continue
			}
			rules = append(rules, r)
		}
	}
	if err := b.quotas.Replace(rules); err != nil {
		b.log.Warn("client quotas ignored", "err", err) // each was valid
	}
}

// startQuotas applies the client quotas there are, before any client is served,
// and then every change.
func (b *Broker) startQuotas(ctx context.Context, parts *layers) {
	im := b.metadata.Image()
	b.applyQuotas(im)
	parts.start(ctx, "client quotas", func(ctx context.Context) error { return b.followQuotas(ctx, im) })
}

// followQuotas applies client quotas at every change after an image until ctx ends.
func (b *Broker) followQuotas(ctx context.Context, im *metadata.Image) error {
	changed, stop := b.metadata.Watch()
	defer stop()
	for {
		last := im
		if im = b.metadata.Image(); im.ChangedQuotas(last) {
			b.applyQuotas(im)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
