"""Models on disk and on the Hub: folders, Joint Block files, the pretrained experts, and how to fetch them."""
