package gcpaudit

import (
	"errors"
	"net"
	"slices"
	"strconv"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/gatehouse/internal/loopback"
)

// endpointOptions says how the service at endpoint is reached.
func endpointOptions(endpoint string) ([]option.ClientOption, error) {
	options := slices.Clone(clientOptions)
	if endpoint == "" {
		return options, nil
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" {
		return nil, errors.New("not of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, errors.New("the port is not a number from 1 to 65535")
	}
	options = append(options, option.WithEndpoint(endpoint))
	if loopback.Host(host) {
		options = append(options,
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	return options, nil
}
