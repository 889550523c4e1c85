package metadata

import (
	"slices"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func (b *builder) applyBroker(name string, e kv.Event) error {
	id, err := parseBroker(name)
	if err != nil {
		return err
	}
	var broker Broker
	if !e.Deleted {
		if broker, err = decode[Broker](e); err != nil {
			return err
		}
		broker.ID, broker.Epoch = id, e.KV.CreateRevision
	}
	if !b.ownBrokers {
		b.im.brokers, b.ownBrokers = slices.Clone(b.im.brokers), true
	}
	i, had := b.im.brokerIndex(id)
	switch {
	case e.Deleted && had:
		b.im.brokers = slices.Delete(b.im.brokers, i, i+1)
	case e.Deleted:
	case had:
		b.im.brokers[i] = broker
	default:
		b.im.brokers = slices.Insert(b.im.brokers, i, broker)
	}
	return nil
}

func (b *builder) applyNode(name string, e kv.Event) error {
	id, err := parseBroker(name)
	if err != nil {
		return err
	}
	var node Node
	if !e.Deleted {
		if node, err = decode[Node](e); err != nil {
			return err
		}
		node.ID, node.Epoch = id, e.KV.ModRevision // written with each registration
	}
	if !b.ownNodes {
		b.im.nodes, b.ownNodes = slices.Clone(b.im.nodes), true
	}
	i, had := b.im.nodeIndex(id)
	switch {
	case e.Deleted && had:
		b.im.nodes = slices.Delete(b.im.nodes, i, i+1)
	case e.Deleted:
	case had:
		b.im.nodes[i] = node
	default:
		b.im.nodes = slices.Insert(b.im.nodes, i, node)
	}
	return nil
}
