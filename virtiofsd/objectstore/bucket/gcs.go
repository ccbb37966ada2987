package bucket

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"
)

// openGCS takes credentials from the parameters, else those that Google's tools
// use by default. STORAGE_EMULATOR_HOST names an emulator, as for these.
func openGCS(ctx context.Context, a Address, getenv func(string) string) (*remote, error) {
	transport := newTransport(a)
	options := []option.ClientOption{}
	switch emulator := getenv("STORAGE_EMULATOR_HOST"); {
	case emulator != "":
		options = append(options, option.WithEndpoint("http://"+emulator+"/storage/v1/"), option.WithoutAuthentication(),
			option.WithHTTPClient(&http.Client{Transport: withUserAgent{a.userAgent(), transport}}), storage.WithJSONReads())
	case a.is("skip_signature"):
		options = append(options, option.WithHTTPClient(&http.Client{Transport: withUserAgent{a.userAgent(), transport}}))
	default:
		creds, err := googleCredentials(ctx, a)
		if err != nil {
			return nil, err
		}
		options = append(options, option.WithHTTPClient(&http.Client{Transport: &oauth2.Transport{
			Source: gcp.CredentialsTokenSource(creds),
			Base:   withUserAgent{a.userAgent(), transport},
		}}))
	}
	client, err := storage.NewClient(ctx, options...)
	if err != nil {
		return nil, err
	}
	client.SetRetry(storage.WithPolicy(storage.RetryNever)) // remote does that
	opened, err := gcsblob.OpenBucket(ctx, nil, a.Name, &gcsblob.Options{Client: client})
	if err != nil {
		return nil, err
	}
	return newRemote(cdk{opened, a.contentType()}, a), nil
}

// googleCredentials reads a key from the parameter, from the file that a
// parameter names, or finds the default credentials.
func googleCredentials(ctx context.Context, a Address) (*google.Credentials, error) {
	key := []byte(a.params["service_account_key"])
	if file := cmp.Or(a.params["service_account"], a.params["application_credentials"]); file != "" && len(key) == 0 {
		var err error
		if key, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	if len(key) == 0 {
		creds, err := google.FindDefaultCredentials(ctx, storage.ScopeReadWrite)
		if err != nil {
			return nil, fmt.Errorf("%w (or give service_account=FILE or skip_signature=true)", err)
		}
		return creds, nil
	}
	return google.CredentialsFromJSONWithType(ctx, key, google.ServiceAccount, storage.ScopeReadWrite)
}
