"""What several tests share: pictures, small networks, trained classifiers, evaluations, running services and JupyterLab."""
