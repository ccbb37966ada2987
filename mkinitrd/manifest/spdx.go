package manifest

import (
	"crypto/sha1"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"storeboot/mkinitrd/image"
)

// goModules are the modules of a Go program, sorted; none if it is none, or
// was built without modules.
func goModules(e *image.Entry) []string {
	if e.File == "" || e.Perm()&0o111 == 0 {
		return nil
	}
	info, err := buildinfo.ReadFile(e.File)
	if err != nil {
		return nil
	}
	set := map[string]bool{}
	if info.GoVersion != "" {
		set["std@"+info.GoVersion] = true
	}
	if info.Main.Path != "" {
		set[info.Main.Path+"@"+info.Main.Version] = true
	}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		set[d.Path+"@"+d.Version] = true
	}
	return slices.Sorted(maps.Keys(set))
}

type spdxDocument struct {
	SPDXVersion       string             `json:"spdxVersion"`
	DataLicense       string             `json:"dataLicense"`
	SPDXID            string             `json:"SPDXID"`
	Name              string             `json:"name"`
	DocumentNamespace string             `json:"documentNamespace"`
	CreationInfo      spdxCreation       `json:"creationInfo"`
	Packages          []spdxPackage      `json:"packages"`
	Files             []spdxFile         `json:"files"`
	Relationships     []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name             string         `json:"name"`
	SPDXID           string         `json:"SPDXID"`
	VersionInfo      string         `json:"versionInfo,omitempty"`
	DownloadLocation string         `json:"downloadLocation"`
	FilesAnalyzed    bool           `json:"filesAnalyzed"`
	VerificationCode *spdxCode      `json:"packageVerificationCode,omitempty"`
	LicenseConcluded string         `json:"licenseConcluded"`
	LicenseDeclared  string         `json:"licenseDeclared"`
	CopyrightText    string         `json:"copyrightText"`
	PrimaryPurpose   string         `json:"primaryPackagePurpose,omitempty"`
	Checksums        []spdxChecksum `json:"checksums,omitempty"`
	ExternalRefs     []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxCode struct {
	Value string `json:"packageVerificationCodeValue"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxFile struct {
	FileName         string         `json:"fileName"`
	SPDXID           string         `json:"SPDXID"`
	Checksums        []spdxChecksum `json:"checksums"`
	LicenseConcluded string         `json:"licenseConcluded"`
	CopyrightText    string         `json:"copyrightText"`
	Comment          string         `json:"comment,omitempty"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const unknown = "NOASSERTION"

// SPDX is the bill of materials, as JSON: the image, its files, and the Go
// modules of its programs. The time is that of the image's entries, so that the
// same image has the same bill; version is that of the program that made it.
func (m *Manifest) SPDX(made time.Time, version string) ([]byte, error) {
	if m.Image == nil {
		return nil, fmt.Errorf("make bill of materials: the manifest has no image")
	}
	const root = "SPDXRef-image"
	d := spdxDocument{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: m.Image.Name,
		DocumentNamespace: "urn:sha256:" + m.Image.SHA256,
		CreationInfo:      spdxCreation{made.UTC().Format(time.RFC3339), []string{"Tool: mkinitrd-" + strings.ReplaceAll(version, " ", "-")}},
		Files:             []spdxFile{},
		Relationships:     []spdxRelationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root}},
	}
	var sums []string
	var packages []spdxPackage
	ids := map[string]string{} // of packages
	for i, e := range m.Entries {
		if e.SHA1 == "" {
			continue
		}
		sums = append(sums, e.SHA1)
		id := fmt.Sprintf("SPDXRef-file-%d", i)
		d.Files = append(d.Files, spdxFile{
			FileName: "." + e.Path, SPDXID: id, LicenseConcluded: unknown, CopyrightText: unknown, Comment: e.Why,
			Checksums: []spdxChecksum{{"SHA1", e.SHA1}, {"SHA256", e.SHA256}},
		})
		d.Relationships = append(d.Relationships, spdxRelationship{root, "CONTAINS", id})
		for _, mod := range e.Modules {
			if ids[mod] == "" {
				ids[mod] = fmt.Sprintf("SPDXRef-module-%d", len(ids))
				packages = append(packages, modulePackage(mod, ids[mod]))
			}
			d.Relationships = append(d.Relationships, spdxRelationship{id, "STATIC_LINK", ids[mod]})
		}
	}
	slices.Sort(sums)
	code := sha1.Sum([]byte(strings.Join(sums, "")))
	d.Packages = append([]spdxPackage{{
		Name: m.Image.Name, SPDXID: root, VersionInfo: m.Release, DownloadLocation: unknown, FilesAnalyzed: true,
		VerificationCode: &spdxCode{hex.EncodeToString(code[:])}, LicenseConcluded: unknown, LicenseDeclared: unknown, CopyrightText: unknown,
		PrimaryPurpose: "ARCHIVE", Checksums: []spdxChecksum{{"SHA256", m.Image.SHA256}},
	}}, packages...)
	data, err := json.MarshalIndent(d, "", "  ")
	return append(data, '\n'), err
}

func modulePackage(mod, id string) spdxPackage {
	name, version, _ := strings.Cut(mod, "@")
	p := spdxPackage{
		Name: name, SPDXID: id, VersionInfo: version, DownloadLocation: unknown,
		LicenseConcluded: unknown, LicenseDeclared: unknown, CopyrightText: unknown, PrimaryPurpose: "LIBRARY",
	}
	if strings.Contains(name, ".") {
		p.ExternalRefs = []spdxRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + name + "@" + version}}
	}
	return p
}
