// Command etcdctl knows the commands of etcd's own etcdctl that deploy/CLUSTER.md
// has. That one cannot be built with `go install` from its module.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	switch command := strings.Join(args[:min(2, len(args))], " "); command {
	case "endpoint health":
		for _, at := range c.Endpoints() {
			if _, err := c.Status(ctx, at); err != nil {
				return fmt.Errorf("%s is unhealthy: %w", at, err)
			}
			fmt.Println(at, "is healthy")
		}
	case "user add":
		name, password, _ := strings.Cut(args[2], ":")
		_, err = c.UserAdd(ctx, name, password)
	case "user grant-role":
		if _, err = c.RoleGet(ctx, args[3]); err != nil && args[3] == "root" {
			_, err = c.RoleAdd(ctx, "root") // as etcdctl does
		}
		if err == nil {
			_, err = c.UserGrantRole(ctx, args[2], args[3])
		}
	case "role add":
		_, err = c.RoleAdd(ctx, args[2])
	case "role grant-permission":
		if args[3] != "--prefix=true" || args[4] != "readwrite" {
			return fmt.Errorf("%q: only --prefix=true readwrite is known here", args)
		}
		_, err = c.RoleGrantPermission(ctx, args[2], args[5], clientv3.GetPrefixRangeEnd(args[5]), clientv3.PermissionType(clientv3.PermReadWrite))
	case "auth enable":
		_, err = c.AuthEnable(ctx)
	default:
		return fmt.Errorf("%q is not known here", command)
	}
	return err
}

func connect() (*clientv3.Client, error) {
	o := clientv3.Config{Endpoints: strings.Split(os.Getenv("ETCDCTL_ENDPOINTS"), ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop()}
	if file := os.Getenv("ETCDCTL_CACERT"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", file)
		}
		o.TLS = &tls.Config{RootCAs: roots}
	}
	return clientv3.New(o)
}
