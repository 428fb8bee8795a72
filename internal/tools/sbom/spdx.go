package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// noAssertion is SPDX's word for what a document does not say.
const noAssertion = "NOASSERTION"

// document is the part of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3) that is used here.
type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	ID            string      `json:"SPDXID"`
	Name          string      `json:"name"`
	Version       string      `json:"versionInfo,omitempty"`
	Supplier      string      `json:"supplier"`
	Download      string      `json:"downloadLocation"`
	FilesAnalyzed bool        `json:"filesAnalyzed"`
	Concluded     string      `json:"licenseConcluded"`
	Declared      string      `json:"licenseDeclared"`
	Copyright     string      `json:"copyrightText"`
	Checksums     []checksum  `json:"checksums,omitempty"`
	References    []reference `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const (
	documentID = "SPDXRef-DOCUMENT"
	imageID    = "SPDXRef-image"
)

func newDocument(version string, created time.Time) *document {
	d := &document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: documentID,
		Name: "pibox-image-" + version,
		// A name, not a place; the same image has the same.
		Namespace: "urn:pibox:image:" + url.PathEscape(version),
		Creation:  creation{Created: created.UTC().Format(time.RFC3339), Creators: []string{"Tool: pibox-sbom"}},
	}
	image := pkg{ID: imageID, Name: "pibox-image", Version: version}
	d.Packages = append(d.Packages, image.filled())
	d.Relationships = append(d.Relationships, relationship{documentID, "DESCRIBES", imageID})
	return d
}

func (d *document) add(p pkg) {
	p.ID = fmt.Sprintf("SPDXRef-%d-%s", len(d.Packages), idString(p.Name))
	d.Packages = append(d.Packages, p.filled())
	d.Relationships = append(d.Relationships, relationship{imageID, "CONTAINS", p.ID})
}

// filled says of everything required that is not known that it is not.
func (p pkg) filled() pkg {
	for _, s := range []*string{&p.Supplier, &p.Download, &p.Concluded, &p.Declared, &p.Copyright} {
		if *s == "" {
			*s = noAssertion
		}
	}
	return p
}

// idString leaves what an SPDXID may hold: letters, digits, dot, hyphen.
func idString(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, s)
}

func debian(name, version, arch, sum string) pkg {
	p := pkg{Name: name, Version: version, Supplier: "Organization: Debian", References: purl(
		"pkg:deb/debian/" + url.PathEscape(name) + "@" + url.QueryEscape(version) + "?arch=" + arch + "&distro=trixie")}
	if sum != "" {
		p.Checksums = sha256Sum(sum)
	}
	return p
}

func golang(module, version string) pkg {
	return pkg{Name: module, Version: version, References: purl("pkg:golang/" + module + "@" + url.QueryEscape(version))}
}

func purl(locator string) []reference {
	return []reference{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: locator}}
}

func sha256Sum(sum string) []checksum { return []checksum{{Algorithm: "SHA256", Value: sum}} }
