"""Looking at a Shoplens that runs in a Kubernetes cluster."""
