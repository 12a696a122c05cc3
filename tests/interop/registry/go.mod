module github.com/agntcy/agntcy-dir-stream/tests/interop/registry

go 1.26.2

require github.com/google/go-containerregistry v0.22.1
