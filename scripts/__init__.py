"""How it gets done: the pipeline engine, its stages and views, the image, the deployment, database jobs."""
