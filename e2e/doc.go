// Package e2e runs the scenarios of the main job against every kind of broker.
//
//	go test ./e2e            small input, brokers in this process and as subprocesses
//	go test -tags e2e ./e2e  real input of at least 200 MB, and brokers in containers too
//
// A real MinIO stands behind the brokers.
package e2e
