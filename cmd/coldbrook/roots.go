package main

// An image FROM scratch holds no certificates of authorities, and without them
// no https:// store, etcd or collector can be trusted: the binary brings
// Mozilla's, which Go takes only where the system has none.
import _ "golang.org/x/crypto/x509roots/fallback"
