package bucket

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
)

// The account of the storage emulator, the same everywhere, and its address.
// https://learn.microsoft.com/azure/storage/common/storage-use-azurite
const (
	emulatorAccount = "devstoreaccount1"
	emulatorKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	emulatorURL     = "http://127.0.0.1:10000/" + emulatorAccount
)

// openAzure takes credentials from the parameters, else from the variables that
// Azure's tools read: AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT
// with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, else the default
// credentials of the machine.
func openAzure(a Address, getenv func(string) string) (*remote, error) {
	client, err := azureClient(a, getenv)
	if err != nil {
		return nil, err
	}
	opened, err := azureblob.OpenBucket(context.Background(), client, nil) // makes no request
	if err != nil {
		return nil, err
	}
	return newRemote(cdk{opened, a.contentType()}, a), nil
}

func azureClient(a Address, getenv func(string) string) (*container.Client, error) {
	p := a.params
	options := &container.ClientOptions{}
	options.Transport = &http.Client{Transport: withDates{newTransport(a)}}
	options.Retry.MaxRetries = -1 // remote does that
	options.Telemetry = policy.TelemetryOptions{ApplicationID: a.userAgent()}

	account := cmp.Or(p["account_name"], a.account)
	key, sas := p["account_key"], strings.TrimPrefix(p["sas_token"], "?")
	if account == "" && key == "" && sas == "" {
		if connection := getenv("AZURE_STORAGE_CONNECTION_STRING"); connection != "" && p["endpoint"] == "" && !a.is("use_emulator") {
			return container.NewClientFromConnectionString(connection, a.Name, options)
		}
	}
	service := p["endpoint"]
	if a.is("use_emulator") {
		account, key = cmp.Or(account, emulatorAccount), cmp.Or(key, emulatorKey)
		service = cmp.Or(service, emulatorURL)
	}
	account = cmp.Or(account, getenv("AZURE_STORAGE_ACCOUNT"))
	if account == "" && service == "" {
		return nil, errors.New("no account: give account_name=NAME or set AZURE_STORAGE_ACCOUNT")
	}
	if account == getenv("AZURE_STORAGE_ACCOUNT") && key == "" && sas == "" && p["client_id"] == "" {
		key, sas = getenv("AZURE_STORAGE_KEY"), strings.TrimPrefix(getenv("AZURE_STORAGE_SAS_TOKEN"), "?")
	}
	service = cmp.Or(service, "https://"+account+".blob.core.windows.net")
	where, err := url.JoinPath(service, a.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case a.is("skip_signature"):
		return container.NewClientWithNoCredential(where, options)
	case key != "":
		credential, err := container.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, errors.New("account_key is not the base64 of a key")
		}
		return container.NewClientWithSharedKeyCredential(where, credential, options)
	case sas != "":
		return container.NewClientWithNoCredential(where+"?"+sas, options)
	case p["client_id"] != "":
		if p["tenant_id"] == "" || p["client_secret"] == "" {
			return nil, errors.New("client_id, client_secret and tenant_id go together")
		}
		credential, err := azidentity.NewClientSecretCredential(p["tenant_id"], p["client_id"], p["client_secret"], nil)
		if err != nil {
			return nil, err
		}
		return container.NewClient(where, credential, options)
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	return container.NewClient(where, credential, options)
}

// withDates adds the dates that an answer lacks: the driver takes them for
// granted and panics without. Nobody looks at them here.
type withDates struct{ base http.RoundTripper }

func (t withDates) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Last-Modified", "X-Ms-Creation-Time"} {
		if resp.Header.Get(name) == "" {
			resp.Header.Set(name, http.TimeFormat)
		}
	}
	return resp, nil
}
