"""Singer tap for Unleash live (unleashlive.com)."""
