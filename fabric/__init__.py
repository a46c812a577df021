"""The Intelligent Data Fabric: looks at where data lies, what it costs, and moves it as far as it is trusted."""

__version__ = "1.0.0"
