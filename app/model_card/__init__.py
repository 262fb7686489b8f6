"""A model's card for people: as Markdown (`content`), and as one page of HTML with pictures (`page`)."""
