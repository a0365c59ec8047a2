// Reads Kubernetes manifests from standard input and refuses what an API server would refuse or, worse, drop: unknown kinds, unknown fields, wrong types.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// Groups of custom resources that the charts may make; their fields are not known here.
var custom = map[string]bool{"monitoring.coreos.com": true, "gateway.networking.k8s.io": true}

func check(decoder runtime.Decoder, document []byte) (string, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := yaml.UnmarshalStrict(document, &map[string]any{}); err != nil {
		return "", err // a key that is there twice
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return "", err
	}
	if head.Kind == "" {
		return "", nil
	}
	what := head.Kind + "/" + head.Metadata.Name
	version, err := schema.ParseGroupVersion(head.APIVersion)
	if err != nil || custom[version.Group] {
		return what, err
	}
	_, _, err = decoder.Decode(document, nil, nil)
	return what, err
}

func main() {
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	reader := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	seen, bad := map[string]bool{}, 0
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		what := ""
		if err == nil {
			what, err = check(decoder, document)
		}
		if err == nil && what != "" && seen[what] {
			err = errors.New("is there twice")
		}
		if err != nil {
			fmt.Println(what+":", strings.TrimSpace(err.Error()))
			bad++
		}
		seen[what] = true
	}
	if delete(seen, ""); len(seen) == 0 {
		fmt.Println("no manifest at all")
		bad++
	}
	if bad > 0 {
		os.Exit(1)
	}
}
