// Command etcd is etcd's own server with all its flags, in the version that
// go.mod names. `go install` refuses to build it from etcd's module.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
