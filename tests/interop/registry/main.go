// An OCI registry in memory, for the real DIR server to store in.
//
// It prints `listening` once it serves, and ends when its standard input does. At SIGUSR1 it begins to answer 500 to
// all that it is asked, and at the next one it ends that. At SIGUSR2 it closes its port and all connections, and at the
// next one it opens the port again. What it holds it keeps.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	flag.Parse()
	if err := run(*address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var (
	lock sync.Mutex
	// The tags of each manifest, by its path.
	tags = map[string][]string{}
)

// forget deletes the tags of a manifest that was deleted, which go with it, but here would stay.
func forget(content http.Handler, answer http.Header, r *http.Request) {
	folder, name := path.Split(r.URL.Path)
	if path.Base(folder) != "manifests" {
		return
	}
	lock.Lock()
	defer lock.Unlock()
	switch r.Method {
	case http.MethodPut:
		manifest := folder + answer.Get("Docker-Content-Digest")
		if manifest != folder+name {
			tags[manifest] = append(tags[manifest], r.URL.Path)
		}
	case http.MethodDelete:
		for _, tag := range tags[r.URL.Path] {
			content.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, tag, nil))
		}
		delete(tags, r.URL.Path)
	}
}

func run(address string) error {
	var fails atomic.Bool
	content := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fails.Load() {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		content.ServeHTTP(w, r)
		forget(content, w.Header(), r)
	})
	open := func() (*http.Server, error) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		server := &http.Server{Handler: handler}
		go server.Serve(listener)
		return server, nil
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	server, err := open()
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		select {
		case <-ended:
			return nil
		case each := <-signals:
			if each == syscall.SIGUSR1 {
				fails.Store(!fails.Load())
			} else if server != nil {
				server.Close()
				server = nil
			} else if server, err = open(); err != nil {
				return err
			}
		}
	}
}
