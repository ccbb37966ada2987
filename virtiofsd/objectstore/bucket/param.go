package bucket

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// param is a parameter of addresses.
type param struct {
	kinds []Kind
	names []string // the first is the canonical one
	check func(string) error
}

func (p param) name() string { return p.names[0] }

var (
	onlyS3    = []Kind{S3}
	onlyGCS   = []Kind{GCS}
	onlyAzure = []Kind{Azure}
	network   = []Kind{S3, GCS, Azure, HTTP}
)

// params are all parameters: those of snix (spec/store.md 2.3) that mean
// something here. Those that say how snix makes requests that are not made
// here, conditional puts, copies and tags, are taken and have no effect.
var params = []param{
	{onlyS3, []string{"access_key_id", "aws_access_key_id"}, anyText},
	{onlyS3, []string{"secret_access_key", "aws_secret_access_key"}, anyText},
	{onlyS3, []string{"session_token", "aws_session_token", "aws_token", "token"}, anyText},
	{onlyS3, []string{"region", "aws_region"}, anyText},
	{onlyS3, []string{"default_region", "aws_default_region"}, anyText},
	{onlyS3, []string{"endpoint", "aws_endpoint", "aws_endpoint_url", "endpoint_url"}, isURL},
	{onlyS3, []string{"bucket", "aws_bucket", "aws_bucket_name", "bucket_name"}, anyText},
	{onlyS3, []string{"virtual_hosted_style_request", "aws_virtual_hosted_style_request"}, isBool},
	{onlyS3, []string{"unsigned_payload", "aws_unsigned_payload"}, isBool},
	{onlyS3, []string{"skip_signature", "aws_skip_signature"}, isBool},
	{onlyS3, []string{"server_side_encryption", "aws_server_side_encryption"}, isOneOf("AES256", "aws:kms", "aws:kms:dsse")},
	{onlyS3, []string{"sse_kms_key_id", "aws_sse_kms_key_id"}, anyText},
	{onlyS3, []string{"checksum_algorithm", "aws_checksum_algorithm"}, isOneOf("sha256", "SHA256")},
	{onlyS3, []string{"copy_if_not_exists", "aws_copy_if_not_exists"}, anyText},
	{onlyS3, []string{"conditional_put", "aws_conditional_put"}, anyText},
	{onlyS3, []string{"disable_tagging", "aws_disable_tagging"}, isBool},

	{onlyGCS, []string{"service_account", "google_service_account", "google_service_account_path", "service_account_path"}, anyText},
	{onlyGCS, []string{"service_account_key", "google_service_account_key"}, anyText},
	{onlyGCS, []string{"application_credentials", "google_application_credentials"}, anyText},
	{onlyGCS, []string{"skip_signature", "google_skip_signature"}, isBool},
	{onlyGCS, []string{"bucket", "google_bucket", "google_bucket_name", "bucket_name"}, anyText},

	{onlyAzure, []string{"account_name", "azure_storage_account_name"}, anyText},
	{onlyAzure, []string{"account_key", "azure_storage_account_key", "azure_storage_access_key", "azure_storage_master_key", "access_key", "master_key"}, anyText},
	{onlyAzure, []string{"sas_token", "azure_storage_sas_token", "azure_storage_sas_key", "sas_key"}, anyText},
	{onlyAzure, []string{"client_id", "azure_storage_client_id", "azure_client_id"}, anyText},
	{onlyAzure, []string{"client_secret", "azure_storage_client_secret", "azure_client_secret"}, anyText},
	{onlyAzure, []string{"tenant_id", "azure_storage_tenant_id", "azure_storage_authority_id", "azure_tenant_id", "azure_authority_id", "authority_id"}, anyText},
	{onlyAzure, []string{"endpoint", "azure_storage_endpoint", "azure_endpoint"}, isURL},
	{onlyAzure, []string{"use_emulator", "azure_storage_use_emulator"}, isBool},
	{onlyAzure, []string{"skip_signature", "azure_skip_signature"}, isBool},
	{onlyAzure, []string{"bucket", "azure_container_name", "container_name"}, anyText},

	{network, []string{"allow_http", "aws_allow_http"}, isBool},
	{network, []string{"allow_invalid_certificates"}, isBool},
	{network, []string{"connect_timeout"}, isDuration},
	{network, []string{"timeout"}, isDuration},
	{network, []string{"default_content_type"}, anyText},
	{network, []string{"http1_only"}, isBool},
	{network, []string{"pool_idle_timeout"}, isDuration},
	{network, []string{"pool_max_idle_per_host"}, isCount},
	{network, []string{"proxy_url"}, isURL},
	{network, []string{"user_agent"}, anyText},
}

// findParam finds the parameter of a kind by one of its names.
func findParam(kind Kind, name string) (param, error) {
	elsewhere := false
	var known []string
	for _, p := range params {
		if !slices.Contains(p.kinds, kind) {
			elsewhere = elsewhere || slices.Contains(p.names, name)
			continue
		}
		if slices.Contains(p.names, name) {
			return p, nil
		}
		known = append(known, p.name())
	}
	switch {
	case elsewhere:
		return param{}, fmt.Errorf("parameter %q has no meaning for %s", name, kind)
	case len(known) == 0:
		return param{}, fmt.Errorf("unknown parameter %q: %s takes none", name, kind)
	}
	slices.Sort(known)
	return param{}, fmt.Errorf("unknown parameter %q (of %s)", name, strings.Join(known, ", "))
}

func sortedKeys(v url.Values) []string { return slices.Sorted(maps.Keys(v)) }

func anyText(s string) error {
	if s == "" {
		return errors.New("empty")
	}
	return nil
}

func isOneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("%q is not one of %s", s, strings.Join(words, ", "))
		}
		return nil
	}
}

func isURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return errors.New("not of the form http://HOST or https://HOST")
	}
	return nil
}

func isBool(s string) error {
	_, err := parseBool(s)
	return err
}

// parseBool takes the words that snix takes.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "true", "on", "yes", "y":
		return true, nil
	case "0", "false", "off", "no", "n":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func isDuration(s string) error {
	_, err := parseDuration(s)
	return err
}

// parseDuration takes seconds, or a number with a unit: 500ms, 30s, 5m.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d <= 0 || d > 24*time.Hour {
		return 0, fmt.Errorf("%q is not a duration of at most a day, such as 500ms, 30s or 5m", s)
	}
	return d, nil
}

func isCount(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 0 || n > 1<<20 {
		return fmt.Errorf("%q is not a number from 0 to %d", s, 1<<20)
	}
	return nil
}
