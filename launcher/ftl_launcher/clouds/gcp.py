"""Google Cloud."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="gcp",
    infra="gcp",
    title="Google Cloud",
    credentials=("GOOGLE_APPLICATION_CREDENTIALS", "~/.config/gcloud/application_default_credentials.json"),
    login="gcloud auth application-default login",
    storage_schemes=("gs", "s3"),
    refusals=refuse(Feature.AMD),
    # No variables: GPUDirect-TCPX, which network_tier: best turns on, has those that SkyPilot gives it, eth0 included.
    multi_node_config={"gcp": {"enable_gvnic": True}},
)
