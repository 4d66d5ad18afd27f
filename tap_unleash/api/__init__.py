"""A client of the Unleash live Analytics API, usable without Singer.

```python
from singer_sdk.authenticators import BearerTokenAuthenticator
from tap_unleash.api.client import UnleashClient

client = UnleashClient(auth=BearerTokenAuthenticator(token="ul_pat_..."))
device_id, *_ = client.devices()
page = client.page(device_id, start=1597630156000, end=1597644726430, number=1)
```
"""
