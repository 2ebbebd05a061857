"""A page on which controls make a network, and its drawings and exact costs follow."""

from resnext.deploy.explore.page import file_page, server_page
from resnext.deploy.explore.record import BATCH, Setting, record

__all__ = ["BATCH", "Setting", "file_page", "record", "server_page"]
