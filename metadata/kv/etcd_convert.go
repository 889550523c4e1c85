package kv

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func fromEtcd(kvs []*mvccpb.KeyValue) []KeyValue {
	out := make([]KeyValue, len(kvs))
	for i, kv := range kvs {
		out[i] = keyFromEtcd(kv)
	}
	return out
}

func keyFromEtcd(kv *mvccpb.KeyValue) KeyValue {
	return KeyValue{
		Key: string(kv.Key), Value: kv.Value, Lease: LeaseID(kv.Lease),
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
	}
}

func eventsFromEtcd(events []*clientv3.Event) []Event {
	out := make([]Event, len(events))
	for i, e := range events {
		out[i] = Event{Deleted: e.Type == mvccpb.Event_DELETE, KV: keyFromEtcd(e.Kv)}
	}
	return out
}
