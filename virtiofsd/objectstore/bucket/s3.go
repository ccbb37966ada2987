package bucket

import (
	"cmp"
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob/s3blob"
)

// defaultRegion is that of requests when neither parameters nor environment
// name one; stores that are not Amazon's take any.
const defaultRegion = "us-east-1"

func openS3(ctx context.Context, a Address) (*remote, error) {
	p := a.params
	load := []func(*config.LoadOptions) error{
		// A client of this type takes AWS_CA_BUNDLE from the environment.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(a.configure)),
		config.WithAppID(a.userAgent()),
	}
	switch key, secret := p["access_key_id"], p["secret_access_key"]; {
	case (key == "") != (secret == ""):
		return nil, errors.New("access_key_id and secret_access_key go together")
	case key != "":
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(key, secret, p["session_token"])))
	case a.is("skip_signature"):
		load = append(load, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	}
	if region := cmp.Or(p["region"], p["default_region"]); region != "" {
		load = append(load, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	cfg.Region = cmp.Or(cfg.Region, defaultRegion)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if endpoint := p["endpoint"]; endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		o.UsePathStyle = !a.is("virtual_hosted_style_request")
		o.Retryer = aws.NopRetryer{} // remote does that
		if p["checksum_algorithm"] == "" {
			// Chunks are checked by their own digests. Checksums beyond the
			// signature are not known to all servers.
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		if a.is("unsigned_payload") {
			o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
		}
	})
	opened, err := s3blob.OpenBucket(ctx, client, a.Name, &s3blob.Options{
		EncryptionType:             types.ServerSideEncryption(p["server_side_encryption"]),
		KMSEncryptionID:            p["sse_kms_key_id"],
		RequestChecksumCalculation: client.Options().RequestChecksumCalculation,
	})
	if err != nil {
		return nil, err
	}
	return newRemote(cdk{opened, a.contentType()}, a), nil
}
