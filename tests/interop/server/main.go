// The real DIR server on scratch folders and free ports, with a stand-in for its schema service.
//
// It prints `listening on http://…` once it serves, and ends when its standard input does: so it
// cannot outlive the test that has started it. With -authn it speaks TLS, and asks each caller for an
// identity of SPIFFE.
//
// With -scratch and -listen it can be killed and started again on what it had. While there is a
// file `schema-down` in the scratch folder, its schema service answers 503; while there is a file
// `schema-stall`, it does not answer, and makes a file `schema-stalled` when it is asked.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agntcy/dir/server"
	authn "github.com/agntcy/dir/server/authn/config"
	"github.com/agntcy/dir/server/config"
)

type options struct {
	scratch, address       string
	registry               string
	age, grace             time.Duration
	mode, audience, socket string
}

func main() {
	var set options
	flag.StringVar(&set.scratch, "scratch", "", "keep all data in this `folder` (default: a temporary one, removed at the end)")
	flag.StringVar(&set.address, "listen", "", "gRPC `address` to listen on (default: a free port)")
	flag.StringVar(&set.registry, "registry", "", "store in the OCI registry at this `address` (default: in the scratch folder)")
	flag.DurationVar(&set.age, "age", 0, "close a connection of this age, give or take a tenth (default: the server's)")
	flag.DurationVar(&set.grace, "grace", 0, "let calls run on for so long when it is closed (default: the server's)")
	flag.StringVar(&set.mode, "authn", "", "ask callers for an identity of SPIFFE: x509 or jwt (default: for none)")
	flag.StringVar(&set.audience, "audience", "", "the `audience` that JWT SVIDs have to be for")
	flag.StringVar(&set.socket, "socket", "", "the `address` of the Workload API, such as unix:///run/agent.sock")
	flag.Parse()
	if err := run(set); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(set options) error {
	scratch, address := set.scratch, set.address
	if scratch == "" {
		made, err := os.MkdirTemp("", "dir-server-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		scratch = made
	} else if err := os.MkdirAll(scratch, 0o777); err != nil {
		return err
	}

	schemas, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	service := orOutage(scratch, routes().ServeHTTP)
	go func() { fmt.Fprintln(os.Stderr, http.Serve(schemas, service)) }()

	if address == "" {
		if address, err = freeAddress(); err != nil {
			return err
		}
	}
	routing, err := freeAddress()
	if err != nil {
		return err
	}
	_, routingPort, _ := net.SplitHostPort(routing)
	local, registry := filepath.Join(scratch, "store"), "127.0.0.1:5000"
	if set.registry != "" {
		local, registry = "", set.registry
	}
	for key, value := range map[string]string{
		"LISTEN_ADDRESS":                 address,
		"OASF_API_VALIDATION_SCHEMA_URL": "http://" + schemas.Addr().String(),
		"STORE_PROVIDER":                 "oci",
		"STORE_OCI_LOCAL_DIR":            local,
		"STORE_OCI_REGISTRY_ADDRESS":     registry,
		"STORE_OCI_AUTH_CONFIG_INSECURE": "true",
		"STORE_VERIFICATION_ENABLED":     "false",
		"ROUTING_LISTEN_ADDRESS":         "/ip4/127.0.0.1/tcp/" + routingPort,
		"ROUTING_DATASTORE_DIR":          filepath.Join(scratch, "routing"),
		"ROUTING_GOSSIPSUB_ENABLED":      "false",
		"ROUTING_BOOTSTRAP_PEERS":        "",
		"DATABASE_TYPE":                  "sqlite",
		"DATABASE_SQLITE_PATH":           filepath.Join(scratch, "dir.db"),
		"METRICS_ENABLED":                "false",
		// By default its worker publishes what is queued once in an hour.
		"PUBLICATION_SCHEDULER_INTERVAL": "1s",
	} {
		if err := os.Setenv("DIRECTORY_SERVER_"+key, value); err != nil {
			return err
		}
	}
	if err := os.Setenv("HOME", scratch); err != nil {
		return err
	}

	cfg, err := config.LoadConfig()
	if err != nil {
		return err
	}
	// The server reads these from its file alone, not from the environment.
	if set.age > 0 {
		cfg.Connection.Keepalive.MaxConnectionAge = set.age
	}
	if set.grace > 0 {
		cfg.Connection.Keepalive.MaxConnectionAgeGrace = set.grace
	}
	scheme := "http"
	if set.mode != "" {
		scheme = "https"
		cfg.Authn = authn.Config{Enabled: true, Mode: authn.AuthMode(set.mode), SocketPath: set.socket}
		if set.audience != "" {
			cfg.Authn.Audiences = []string{set.audience}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go announce(ctx, scheme, address)
	if err := server.Run(ctx, cfg); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func announce(ctx context.Context, scheme, address string) {
	for ctx.Err() == nil {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			fmt.Println("listening on " + scheme + "://" + address)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// orOutage looks for the markers at each request: an outage needs no restart, and outlasts one.
func orOutage(scratch string, up http.HandlerFunc) http.HandlerFunc {
	has := func(marker string) bool {
		_, err := os.Stat(filepath.Join(scratch, marker))
		return err == nil
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if has("schema-down") {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		if has("schema-stall") {
			_ = os.WriteFile(filepath.Join(scratch, "schema-stalled"), nil, 0o666)
			<-r.Context().Done()
			return
		}
		up(w, r)
	}
}

// routes knows some versions of the schema, as a schema service does, and answers 404 for the others.
func routes() http.Handler {
	mux := http.NewServeMux()
	for _, version := range []string{"0.7.0", "0.8.0", "1.0.0", "1.1.0"} {
		mux.HandleFunc("POST /api/"+version+"/validate/object/record", validate)
	}
	return mux
}

// validate answers as an OASF schema service does. A record says by its name what becomes of it:
// `refuse…` is invalid, for `fail…` the service is down, for `broken…` it fails, and `stall…` gets
// no answer. It looks at nothing else, so a record can be stored that the server cannot decode.
func validate(w http.ResponseWriter, r *http.Request) {
	var record struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(r.Body).Decode(&record); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if strings.HasPrefix(record.Name, "fail") {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	if strings.HasPrefix(record.Name, "broken") {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	if strings.HasPrefix(record.Name, "stall") {
		<-r.Context().Done()
		return
	}
	type fault map[string]string
	errors := []fault{}
	if strings.HasPrefix(record.Name, "refuse") {
		// As many faults as the number behind the name asks for, to make the message long.
		count := 1
		_, _ = fmt.Sscanf(record.Name, "refuse-%d", &count)
		for range count {
			errors = append(errors, fault{
				"error": "attribute_unknown", "message": "an attribute is unknown", "attribute_path": "name",
			})
		}
	}
	if record.Name == "" {
		errors = append(errors, fault{
			"error": "attribute_required_missing", "message": "name is required", "attribute_path": "name",
		})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"errors": errors, "warnings": []fault{}, "error_count": len(errors), "warning_count": 0,
	})
}
