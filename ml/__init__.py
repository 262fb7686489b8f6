"""Arrays in, arrays out: features, labels, forests and the bundles that keep them. Never imports `app`."""
