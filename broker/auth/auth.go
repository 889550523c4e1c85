// Package auth says who a peer is and what it may do. It hides how access control lists are matched: Kafka's
// StandardAuthorizer, with literal, wildcard and prefixed patterns, implied operations, and deny before allow.
// A decision is a pure function of an immutable list of rules, so it takes no lock.
package auth

import (
	"fmt"
	"strings"
)

// Principal is who a peer is, such as User:alice.
type Principal struct{ Type, Name string }

// UserType is the only type of principal that the built-in authentication makes.
const UserType = "User"

// Anonymous is a peer that did not authenticate.
var Anonymous = Principal{Type: UserType, Name: "ANONYMOUS"}

// User is a principal of type User.
func User(name string) Principal { return Principal{Type: UserType, Name: name} }

// String is Type:Name.
func (p Principal) String() string { return p.Type + ":" + p.Name }

// ParsePrincipal reads Type:Name; the name may hold colons.
func ParsePrincipal(s string) (Principal, error) {
	t, n, ok := strings.Cut(s, ":")
	if !ok || t == "" {
		return Principal{}, fmt.Errorf("principal %q: want Type:name", s)
	}
	return Principal{Type: t, Name: n}, nil
}

// ParsePrincipals reads principals separated by semicolons, as in super.users.
func ParsePrincipals(s string) ([]Principal, error) {
	var all []Principal
	for part := range strings.SplitSeq(s, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := ParsePrincipal(part)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Operation is what a principal wants to do; the values are Kafka's AclOperation codes.
type Operation int8

// The operations.
const (
	UnknownOperation Operation = iota
	AnyOperation               // only in filters
	All
	Read
	Write
	Create
	Delete
	Alter
	Describe
	ClusterAction
	DescribeConfigs
	AlterConfigs
	IdempotentWrite
	CreateTokens
	DescribeTokens
	TwoPhaseCommit
	operations
)

var operationNames = [operations]string{"Unknown", "Any", "All", "Read", "Write", "Create", "Delete", "Alter", "Describe",
	"ClusterAction", "DescribeConfigs", "AlterConfigs", "IdempotentWrite", "CreateTokens", "DescribeTokens", "TwoPhaseCommit"}

// String is Kafka's name of the operation.
func (o Operation) String() string { return nameOf(operationNames[:], int(o)) }

// ResourceType is what something is done to; the values are Kafka's ResourceType codes.
type ResourceType int8

// The types of resources.
const (
	UnknownResource ResourceType = iota
	AnyResource                  // only in filters
	Topic
	Group
	Cluster
	TransactionalID
	DelegationToken
	UserResource
	resourceTypes
)

var resourceNames = [resourceTypes]string{"Unknown", "Any", "Topic", "Group", "Cluster", "TransactionalId", "DelegationToken", "User"}

// String is Kafka's name of the type.
func (t ResourceType) String() string { return nameOf(resourceNames[:], int(t)) }

// Resource is what something is done to.
type Resource struct {
	Type ResourceType
	Name string
}

// ClusterName is the name of the only resource of type Cluster.
const ClusterName = "kafka-cluster"

// TheCluster is the only resource of type Cluster.
var TheCluster = Resource{Type: Cluster, Name: ClusterName}

// String is Type:Name.
func (r Resource) String() string { return r.Type.String() + ":" + r.Name }

// Action is one operation on one resource.
type Action struct {
	Operation Operation
	Resource  Resource
}

// AuthorizedOperations are the operations of a type that Kafka's describe APIs report as bits
// (AclEntry.supportedOperations), All not among them.
func AuthorizedOperations(t ResourceType) []Operation {
	switch t {
	case Topic:
		return []Operation{Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs}
	case Group:
		return []Operation{Read, Delete, Describe, DescribeConfigs, AlterConfigs}
	case Cluster:
		return []Operation{Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite}
	case TransactionalID:
		return []Operation{Write, Describe, TwoPhaseCommit}
	case DelegationToken:
		return []Operation{Describe}
	case UserResource:
		return []Operation{CreateTokens, DescribeTokens}
	}
	return nil
}

func nameOf(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return names[0]
	}
	return names[i]
}
