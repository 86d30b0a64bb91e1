"""A Kubernetes cluster of the user's own."""

from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="kubernetes",
    infra="kubernetes",
    title="Kubernetes",
    credentials=("KUBECONFIG", "~/.kube/config"),
    login="put the cluster's kubeconfig at ~/.kube/config",
    refusals={
        Feature.SPOT: "Kubernetes has no spot machines of its own; leave launch.spot out "
        "(a spot node pool is chosen by the cluster's labels)",
        Feature.DISK_TIER: "Kubernetes has no disk tiers; leave launch.disk_tier out",
        Feature.AUTOSTOP: "pods cannot stop; leave launch.autodown: false out, and they end when idle",
    },
    # No variables: network_tier: best has SkyPilot find out whose cluster it is, and set what its fabric takes.
    is_container=True,
    is_rented=False,
)
